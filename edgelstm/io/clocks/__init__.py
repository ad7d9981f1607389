"""From a sensor's clock to this machine's; no clock is read here, times are data."""
