"""`ModelConfig` -> the megatron-core module of one rank, and what its parameters are called globally."""
