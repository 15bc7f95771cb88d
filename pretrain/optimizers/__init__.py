"""The optimizers that a run can name, each with the states that a checkpoint keeps of it."""
