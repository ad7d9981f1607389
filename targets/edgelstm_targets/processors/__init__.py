"""The processors that there are targets for: one entry each, without TVM and Numba."""
