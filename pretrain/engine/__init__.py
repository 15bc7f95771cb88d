"""The only room that knows DeepSpeed and megatron-core's parallel internals."""

import warnings

# megatron-core says at import, in several places, that the optional Transformer Engine and Apex are missing.
warnings.filterwarnings("ignore", message=r".*Apex (is|are) not installed", category=UserWarning)
