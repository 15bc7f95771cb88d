"""GPT-2 style to Llama style decoders."""
