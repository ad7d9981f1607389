"""Many columns (streams, elements of a batch, frames) through one layer: weights are read once."""
