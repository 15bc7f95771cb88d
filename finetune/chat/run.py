"""Instruction tuning from files to a model that chats: prepare, train as pretraining does, export."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import DataError, ExitStatus
from configs.load import build_config
from finetune.chat.config import InstructRunConfig
from finetune.chat.prepared import Prepared
from finetune.chat.preparing import prepare
from finetune.chat.saved import SavedChat, saved_chat
from finetune.chat.template import ChatTemplate, find_template, own_template
from finetune.chat.vocabulary import tokenizer_of
from pretrain.config import RunConfig
from pretrain.config.sampling import CONVERSATIONS, ConversationCutting
from pretrain.parallel.launch import is_main_process

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL_FOLDER = "model"


@dataclass(frozen=True)
class PreparedRun:
    """Conversations as corpora, and how they are written.

    Attributes:
        data: the corpora.
        template: the chat template.
        max_tokens: of a conversation, and in a sample.
    """

    data: Prepared
    template: ChatTemplate
    max_tokens: int


def prepare_run(config: InstructRunConfig, log: Callable[[str], None]) -> PreparedRun:
    """What a run needs beside its model.

    Args:
        config: the run.
        log: prints a line.

    Raises:
        UserError: anything that stands in the way.
    """
    from pretrain.starting.source import open_source

    source = open_source(config.model)
    max_tokens = config.seq_length or source.model.seq_length
    is_directory = (config.model / "config.json").is_file()
    chat = None if is_directory else saved_chat(config.model)
    own = own_template(config.model) if is_directory else chat.template if chat is not None else None
    template = find_template(config.chat.template, config.chat.special_tokens, own)
    with tempfile.TemporaryDirectory() as name:
        tokenizer = tokenizer_of(config.model, config.tokenizer_dir, Path(name))
        is_same = source.is_same_tokenizer(tokenizer.fingerprint, tokenizer)
        source.close()
        if is_same is False and not config.start_from_options.accept_tokenizer:
            raise DataError(
                "is not the tokenizer that the model was trained with: the same id means other text",
                where=tokenizer.model_path,
                expected="tokenizer_dir=null, or start_from_options.accept_tokenizer=true",
            )
        return PreparedRun(prepare(config, tokenizer, template, max_tokens, log), template, max_tokens)


def instruct(config: InstructRunConfig, log: Callable[[str], None]) -> ExitStatus:
    """Train, and write the model; on every process, started by any launcher.

    Args:
        config: everything that can be told.
        log: prints a line; called on the first process only.

    Raises:
        UserError: anything that stands in the way.
    """
    from pretrain.main import run

    log_here = log if is_main_process() else lambda line: None
    prepared = prepare_run(config, log_here)
    log_here(f"chat template: {prepared.template.name}")
    if added := prepared.data.record["added_tokens"]:
        log_here(f"the tokenizer is the model's with {', '.join(added)} added; all its other ids are what they were")
    for note in prepared.data.notes():
        log_here(note)
    run_config = pretraining_config(config, prepared)
    if config.training.duration.unit == "epochs":
        log_here(f"{config.training.duration} are {run_config.training.duration}")
    chat = SavedChat(prepared.template.text, prepared.data.record["stop"])
    if is_main_process():
        run_config.output.mkdir(parents=True, exist_ok=True)
        chat.write(run_config.output)
    status = run(run_config)
    if status == ExitStatus.OK and config.export_dtype is not None and is_main_process():
        log(write_model(config, prepared.data))
    return status


def pretraining_config(config: InstructRunConfig, prepared: PreparedRun) -> RunConfig:
    """The run of pretraining that trains on prepared conversations.

    Raises:
        UserError: the model, the layout and the data do not fit together.
    """
    from pretrain.starting.architecture import complete_model

    same = ("seed", "method", "objective", "parallel", "training", "optimizer", "evaluation", "checkpoint", "monitor")
    dumped = config.model_dump(mode="json")
    raw: dict[str, Any] = {key: dumped[key] for key in same}
    validation = prepared.data.validation
    raw |= {
        "output": str(config.output),
        "start_from": str(config.model),
        # The tokenizer is that of the model with tokens added, or was accepted: `prepare_run` compares it.
        "start_from_options": dumped["start_from_options"] | {"accept_tokenizer": True},
        "model": {} if config.seq_length is None else {"seq_length": config.seq_length},
        "data": {
            "train": str(prepared.data.train),
            "validation": {} if validation is None else {"validation": str(validation)},
            "split": [1.0, 0.0, 0.0],
            "reset_attention_at_documents": True,
        },
    }
    if config.training.duration.unit == "epochs":
        raw["training"]["duration"] = f"{_samples(config, prepared)} samples"
    return build_config(RunConfig, complete_model(raw), Path("instruct"))


def _samples(config: InstructRunConfig, prepared: PreparedRun) -> int:
    """Samples in as many epochs as the run is long."""
    from data_prep.corpus import Corpus
    from pretrain.data.conversations import Conversations
    from pretrain.data.documents import Documents

    corpus = Corpus.open(prepared.data.train)
    documents = Documents(corpus, "train", (1.0, 0.0, 0.0), config.output / "index")
    cutting = ConversationCutting(
        CONVERSATIONS, prepared.max_tokens, marks_documents=True, packing=config.objective.packing
    )
    return Conversations(corpus, documents, cutting, config.seed, endless=True).first_sample(
        int(config.training.duration.value)
    )


def write_model(config: InstructRunConfig, data: Prepared) -> str:
    """Export the newest checkpoint, and hold its chat template against what was trained on; returns where it is.

    Raises:
        UserError: it cannot be written, or `apply_chat_template` of what was written gives other ids.
    """
    from finetune.config import ExportConfig
    from finetune.huggingface.export import export

    folder = config.output / MODEL_FOLDER
    assert config.export_dtype is not None
    record = export(ExportConfig(model=config.output, output=folder, dtype=config.export_dtype, overwrite=True))
    compared = check_template(folder, data)
    beside = f", the adapter in {folder / record['adapter']['adapter']}" if "adapter" in record else ""
    return (
        f"model  {folder} ({record['architecture']}, logits differ by {record['logits']['largest_difference']:.0e},"
        f" apply_chat_template gives the trained ids of {compared} conversations{beside})"
    )


def check_template(folder: Path, data: Prepared) -> int:
    """Compare `apply_chat_template` of an exported model with the ids that were trained on; returns of how many.

    Raises:
        DataError: they differ.
    """
    from transformers import AutoTokenizer

    from data_prep.corpus import Corpus
    from pretrain.models.huggingface.transformers_model import quiet_transformers

    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    shard = Corpus.open(data.train).shards[0]
    for example in data.record["examples"]:
        found = tokenizer.apply_chat_template(example["messages"], tools=example["tools"], return_dict=False)
        expected = shard.document(example["document"]).tolist()
        if list(found) != expected:
            raise DataError(
                f"apply_chat_template gives {len(found)} ids for document {example['document']} of {data.train},"
                f" and {len(expected)} others were trained on",
                where=folder,
                expected="the same ids",
            )
    return len(data.record["examples"])
