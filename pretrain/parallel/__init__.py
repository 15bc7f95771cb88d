"""Who does what among the ranks: how a process was started, which layout it is part of, which shards it holds."""
