"""Programs as CUDA kernels, written in Numba-CUDA and compiled ahead of time to cubin and PTX."""
