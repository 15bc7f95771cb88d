"""Pure functions of a run's progress: how long it is, how large a step, which learning rate."""
