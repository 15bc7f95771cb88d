"""Encoder-decoders: T5 and BART."""
