"""The only room that knows DeepSpeed and megatron-core's parallel internals."""
