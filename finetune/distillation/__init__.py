"""What a network learns from a larger one beside its own labels: distributions over labels, and hidden states."""
