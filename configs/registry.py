"""Which config class belongs to which entry point, by name: the rooms are imported only when one is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from configs.errors import ConfigError, nearest
from configs.kinds import resolve
from configs.section import Section


@dataclass(frozen=True)
class CommandEntry:
    """One command and the class of its config.

    Attributes:
        name: what the reference and the schema file are called.
        room: the folder of `configs/` that holds its recipes.
        command: how a user starts it.
        target: the class, as `module:Class`.
        completion: what fills in what a config may leave out, as `module:function`; empty: nothing.
    """

    name: str
    room: str
    command: str
    target: str
    completion: str = ""

    def config_class(self) -> type[Section]:
        """The class; imports its room."""
        cls = resolve(self.target)
        if not (isinstance(cls, type) and issubclass(cls, Section)):
            raise TypeError(f"{self.target} is not a config class")
        return cls


ENTRIES: tuple[CommandEntry, ...] = (
    CommandEntry(
        "pretrain",
        "pretrain",
        "deepspeed pretrain/main.py",
        "pretrain.config.run:RunConfig",
        "pretrain.starting.architecture:complete_model",
    ),
    CommandEntry(
        "sample-corpus", "data_prep", "python -m data_prep sample-corpus", "data_prep.config:SampleCorpusConfig"
    ),
    CommandEntry("clean", "data_prep", "python -m data_prep clean", "data_prep.cleaning.config:CleanConfig"),
    CommandEntry(
        "train-tokenizer", "data_prep", "python -m data_prep train-tokenizer", "data_prep.config:TokenizerConfig"
    ),
    CommandEntry(
        "tokenizer-report",
        "data_prep",
        "python -m data_prep tokenizer-report",
        "data_prep.tokenizer.report_config:TokenizerReportConfig",
    ),
    CommandEntry("tokenize", "data_prep", "python -m data_prep tokenize", "data_prep.config:TokenizeConfig"),
    CommandEntry("build", "data_prep", "python -m data_prep build", "data_prep.build_config:BuildConfig"),
    CommandEntry("mix", "data_prep", "python -m data_prep mix", "data_prep.corpus_tools.mixing:MixConfig"),
    CommandEntry("export", "finetune", "python -m finetune export", "finetune.config:ExportConfig"),
    CommandEntry("import", "finetune", "python -m finetune import", "finetune.config:ImportConfig"),
    CommandEntry(
        "classify", "finetune", "python -m finetune classify", "finetune.tasks.classify_config:ClassifyConfig"
    ),
    CommandEntry("instruct", "finetune", "python -m finetune instruct", "finetune.chat.config:InstructRunConfig"),
    CommandEntry("tag", "finetune", "python -m finetune tag", "finetune.tasks.tag_config:TagConfig"),
    CommandEntry("qa", "finetune", "python -m finetune qa", "finetune.tasks.qa_config:QaConfig"),
    CommandEntry("seq2seq", "finetune", "python -m finetune seq2seq", "finetune.tasks.seq2seq_config:Seq2SeqConfig"),
    CommandEntry("prefer", "finetune", "python -m finetune prefer", "finetune.tasks.prefer_config:PreferConfig"),
    CommandEntry("distill", "finetune", "python -m finetune distill", "finetune.tasks.distill_config:DistillConfig"),
    CommandEntry("embed", "finetune", "python -m finetune embed", "finetune.tasks.embed_config:EmbedConfig"),
)
LAYOUT_CHECK = "pretrain.parallel.layout:resolve_layout"


def entry_named(name: str) -> CommandEntry:
    """The entry with this name.

    Raises:
        ConfigError: if there is none; names the nearest.
    """
    by_name = {entry.name: entry for entry in ENTRIES}
    if name not in by_name:
        known = ", ".join(by_name)
        raise ConfigError(
            f"{name!r} has no config", where="--for", expected=f"one of {known}", nearest=nearest(name, by_name)
        )
    return by_name[name]
