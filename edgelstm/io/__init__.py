"""Sensors and recordings in, predictions out: samples with their time."""
