"""Step graph -> Program: which kernels, how their weights are packed, where everything stands."""
