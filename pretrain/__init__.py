"""Shards -> samples -> batches -> loss -> checkpoint, with DeepSpeed and megatron-core behind one engine."""
