"""What quantizing did to a model: made again from the artifact, verified, measured and shown."""
