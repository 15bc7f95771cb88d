"""Batch jobs on Slurm: starting them, watching them, passing their verdict on."""
