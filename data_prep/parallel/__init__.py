"""Work on many processes, MPI ranks or Slurm tasks, who does what, and how far it is."""
