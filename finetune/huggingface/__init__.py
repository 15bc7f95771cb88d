"""A checkpoint -> a Hugging Face directory: weights, tokenizer, model card."""
