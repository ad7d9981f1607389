"""A SIMT emulator of the PTX that Numba-CUDA emits: runs kernels where there is no GPU."""
