"""The names of the fine-tuning tasks, each with its declaration."""

from __future__ import annotations

from configs.kinds import Kinds

TASKS = Kinds(
    what="fine-tuning task",
    targets={
        "classify": "finetune.tasks.classify_config:ClassifyConfig",
        "seq2seq": "finetune.tasks.seq2seq_config:Seq2SeqConfig",
    },
    default="classify",
)
