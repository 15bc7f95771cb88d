"""Beginning a run with the weights of another model: a checkpoint of ours, or a Hugging Face directory."""
