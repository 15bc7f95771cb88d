"""Encoders: BERT, RoBERTa and a modern one; attention in both directions, a head that says masked tokens."""
