"""Code that runs on the device, in the part of Python that Numba-CUDA compiles.

Functions here are not called by Python: factories close over sizes and return functions that Numba
inlines into one kernel. Sizes are therefore constants of the compiled code.
"""
