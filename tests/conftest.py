"""Shared by every test: one thread a process, so that workers of pytest-xdist do not fight for cores."""

import torch

torch.set_num_threads(1)
