"""Sources of frames and sinks of predictions, one file per format; `replay` joins them."""
