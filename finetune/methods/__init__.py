"""How a task's network is trained: all of its weights, or a small adapter beside frozen ones."""
