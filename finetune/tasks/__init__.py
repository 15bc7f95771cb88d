"""The fine-tuning tasks, each a declaration (its config class, without torch) and an implementation."""
