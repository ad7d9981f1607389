"""Talking to a device that runs a model: frames over a stream of bytes, agent and client."""
