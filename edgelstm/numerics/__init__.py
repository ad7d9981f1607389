"""Recurrent cells as data, and what they compute in NumPy, in floating point and in integers."""
