"""The monitor's server: a sink of the run that browsers look at."""
