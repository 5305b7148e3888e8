"""What is compiled: one problem at a time, all in the processor's cache."""

from filterwatch.detection.kernels import cache as cache  # first: numba needs a folder to write to
