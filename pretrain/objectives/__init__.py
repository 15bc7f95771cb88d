"""What the model is to do with a sample: samples -> inputs, labels, loss mask."""
