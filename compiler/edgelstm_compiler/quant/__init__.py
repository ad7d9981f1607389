"""Quantization: a float step graph in, one that computes in fewer bits out."""
