"""From scores of every sample to phases, repetitions and alarms; runs no model, reads no clock."""
