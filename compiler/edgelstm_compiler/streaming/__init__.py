"""From the sequence network to one step of it: time axes, states, what cannot be streamed."""
