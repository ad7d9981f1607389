"""From the clock of a sensor to the clock of this machine; no clock is read here, times are data."""
