"""Modified Kneser-Ney n-grams of a corpus: the loss that a neural model has to beat."""
