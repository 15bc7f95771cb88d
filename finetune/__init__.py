"""Checkpoints -> fine-tuned models, exports and generated text."""
