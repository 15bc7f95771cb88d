"""Training texts changed anew in each epoch: words left out, exchanged or misspelt, synonyms, back-translations."""
