"""Which sample is number n of the run, and how the samples become each rank's micro-batches."""
