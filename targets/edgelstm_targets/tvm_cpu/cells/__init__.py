"""What becomes of the sums of a phase: a cell's body, written in floating point or in integers."""
