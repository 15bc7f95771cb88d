"""Raw text -> documents -> tokens -> memory-mapped shards. Imports no torch."""
