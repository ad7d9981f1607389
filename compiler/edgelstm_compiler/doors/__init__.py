"""Models of PyTorch and Keras, exported to ONNX by the user's own framework in its own process."""
