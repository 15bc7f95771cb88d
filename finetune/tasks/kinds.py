"""The names of the fine-tuning tasks, each with its declaration."""

from __future__ import annotations

from configs.kinds import Kinds

TASKS = Kinds(
    what="fine-tuning task",
    targets={
        "classify": "finetune.tasks.classify_config:ClassifyConfig",
        "tag": "finetune.tasks.tag_config:TagConfig",
        "qa": "finetune.tasks.qa_config:QaConfig",
        "seq2seq": "finetune.tasks.seq2seq_config:Seq2SeqConfig",
        "prefer": "finetune.tasks.prefer_config:PreferConfig",
        "distill": "finetune.tasks.distill_config:DistillConfig",
        "embed": "finetune.tasks.embed_config:EmbedConfig",
    },
    default="classify",
)
