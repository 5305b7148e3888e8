"""The clustering in plain tensor operations and double precision: what the kernels must find."""
