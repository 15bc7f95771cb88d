"""Documents -> shards: the plan, the units of work of every worker, what was done and what is left, the manifest."""
