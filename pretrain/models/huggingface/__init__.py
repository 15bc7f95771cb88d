"""Our models <-> those of Hugging Face transformers: configs and weights both ways, and the check of the logits."""
