"""Shards -> a trained model: DeepSpeed ZeRO under megatron-core's tensor, sequence and pipeline parallelism."""

import warnings

# megatron-core says at import, in several places, that the optional Transformer Engine and Apex are missing.
warnings.filterwarnings("ignore", message=r".*Apex (is|are) not installed", category=UserWarning)
