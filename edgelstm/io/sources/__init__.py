"""Where samples come from: a file a scheme or format."""
