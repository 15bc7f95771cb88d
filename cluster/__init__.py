"""Batch jobs on Slurm: starting the ranks, watching them, passing their exit status on."""
