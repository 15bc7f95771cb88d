"""Which tokens of a text a saved classifier goes by: integrated gradients, as a page."""
