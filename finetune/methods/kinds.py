"""The names of the methods by which a task's network is trained, each with its declaration."""

from __future__ import annotations

from configs.kinds import Kinds

METHODS = Kinds(
    what="fine-tuning method",
    targets={
        "full": "finetune.methods.config:FullConfig",
        "lora": "finetune.methods.config:LoraConfig",
        "ia3": "finetune.methods.config:Ia3Config",
        "bottleneck": "finetune.methods.config:BottleneckConfig",
        "prefix": "finetune.methods.config:PrefixTuningConfig",
        "prompt": "finetune.methods.config:PromptTuningConfig",
    },
    default="full",
)
