"""Shared by every test: one thread a process, so that parallel workers do not fight for cores."""

import torch

torch.set_num_threads(1)
