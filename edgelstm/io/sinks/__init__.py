"""Where predictions go: a file a scheme or format."""
