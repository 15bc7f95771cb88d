"""How a run begins with the weights of another: checked before there are ranks, then read into the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import CheckpointError, ConfigError, DataError, UserError
from pretrain.checkpoint.model_checkpoint import holds_adapter
from pretrain.checkpoint.ranks import Problem, Ranks, raise_together
from pretrain.config import RunConfig
from pretrain.starting.architecture import check_model, newest_readable
from pretrain.starting.source import StartSource, open_source

if TYPE_CHECKING:
    from pretrain.data.run_data import RunData
    from pretrain.engine.engine import TrainEngine

MAX_LISTED = 8
RECORD_KEY = "start_from"
"""Of a checkpoint's metadata: where the run's first weights came from."""
CONTENT_KEY = "content"
"""Of that record, where the weights stay frozen: their hash."""


@dataclass(frozen=True)
class Start:
    """What a run starts from.

    Attributes:
        source: the weights; None: the run has checkpoints and goes on from them.
        vocab_size: token ids that the model has at least.
        notes: what was found and done, a sentence each, to be shown once.
        saved: where the first weights of an adapter's run came from, which goes on; None: it is new, or of no adapter.
    """

    source: StartSource | None
    vocab_size: int | None
    notes: tuple[str, ...] = ()
    saved: Mapping[str, Any] | None = None

    def checked(self, config: RunConfig, data: RunData) -> Start:
        """The same, after comparing the source with the run.

        Args:
            config: `model.vocab_size` is known.
            data: what is read.

        Raises:
            UserError: the weights are of another architecture, or of another tokenizer.
        """
        if self.source is None:
            return self
        notes = check_model(self.source, config.model, config.start_from_options)
        if config.method.freezes:
            _refuse_equal_rows(self.source, config)
        notes += _tokenizer_notes(self.source, config, data)
        return replace(self, notes=(*self.notes, *self.source.notes, *notes))

    def with_equal_logits(self, config: RunConfig) -> Start:
        """The same, after the logits of a Hugging Face source were compared. In one process, before there are ranks.

        Of an adapter's run that goes on, the weights were compared at its beginning: they have to be the same.

        Raises:
            UserError: they differ.
        """
        if self.saved is not None and self.source is not None:
            check_same_weights(self.source, self.saved)
            return self
        from pretrain.starting.huggingface_source import HuggingFaceSource

        options = config.start_from_options
        if not isinstance(self.source, HuggingFaceSource):
            return self
        if not options.check_logits:
            note = "start_from_options.check_logits=false: the logits were not compared with transformers'"
        else:
            from pretrain.starting.logit_comparison import compare_logits

            note = compare_logits(self.source, options.check_parameters)
        return replace(self, notes=(*self.notes, note))


def find_start(config: RunConfig) -> Start | None:
    """What `config` says that the run starts from; None: nothing. Needs no process group.

    Raises:
        UserError: the source is missing, damaged or of an architecture that is none of ours.
    """
    if config.start_from is None:
        return None
    saved = None if config.checkpoint.resume == "never" else newest_readable(config.output / "checkpoints")
    if saved is not None and config.method.freezes and holds_adapter(saved.metadata):
        record = saved.metadata.get(RECORD_KEY) or {}
        source = open_source(base_path(config.start_from, record))
        return Start(source, saved.model.vocab_size, saved=record)
    if saved is not None:
        return Start(None, saved.model.vocab_size, tuple(_resume_notes(config, saved.metadata)))
    source = open_source(config.start_from)
    return Start(source, source.model.vocab_size)


def base_path(start_from: Path, record: Mapping[str, Any]) -> Path:
    """Where the model lies that an adapter stands beside: of a run that was given, the checkpoint of then."""
    known = Path(str(record.get("path", start_from)))
    return known if known.is_relative_to(start_from.absolute()) else start_from


def check_same_weights(source: StartSource, record: Mapping[str, Any]) -> None:
    """Refuse other weights than those that an adapter was trained beside.

    Args:
        source: that is given now.
        record: what the adapter's checkpoint says of its source.

    Raises:
        CheckpointError: they are others.
    """
    if record.get(CONTENT_KEY) != source.content_hash():
        raise CheckpointError(
            "holds other weights than those that the adapter was trained beside",
            where=f"start_from = {source.path}",
            expected=f"what was at {record.get('path')} when the run began",
        )


def begin_from(start: Start, config: RunConfig, engine: TrainEngine) -> dict[str, Any]:
    """Give a new run's engine the weights of its source. Collective.

    An engine that trains an adapter has them already, see `FrozenWeights`.

    Returns:
        where they came from, for the metadata of the run's checkpoints.

    Raises:
        CheckpointError: on every rank: the source is damaged.
    """
    from pretrain.engine.processes import cores_of_this_rank
    from pretrain.models.initial_values import InitialValues
    from pretrain.starting.values import StartingValues

    ranks, source = Ranks(), start.source
    where = f"start_from = {config.start_from}"
    if source is not None and config.method.freezes:
        content = source.content_hash() if ranks.rank == 0 else None
        return _record(source) | {CONTENT_KEY: ranks.broadcast(content)}
    if source is None:
        # Looked at in the preflight, too: only a directory that changed meanwhile comes to this.
        raise CheckpointError("had checkpoints a moment ago, and has none now", where=config.output)
    refuse_damaged(source, ranks, where)
    drawn = InitialValues(config.seed, cores_of_this_rank())
    problem = None
    try:
        engine.fill_weights(StartingValues(source, config.model, config.start_from_options, drawn))
    except UserError as error:
        problem = Problem(str(error))
    finally:
        source.close()
    raise_together(ranks.gather(problem), where)
    return _record(source)


def refuse_damaged(source: StartSource, ranks: Ranks, where: object) -> None:
    """Compare the hashes of a source, a share on each rank. Collective.

    Raises:
        CheckpointError: on every rank: it is damaged.
    """
    damage = source.find_damage(ranks.rank, ranks.size)
    found = [line for lines in ranks.gather(damage[:MAX_LISTED]) for line in lines]
    if found:
        raise CheckpointError("is damaged: " + "; ".join(found[:MAX_LISTED]), where=where)


def _record(source: StartSource) -> dict[str, Any]:
    return source.record() | {"num_parameters": source.model.num_parameters()}


def _refuse_equal_rows(source: StartSource, config: RunConfig) -> None:
    """Rows of new ids that are all the mean of the known ones would stay so: they are frozen."""
    known, wanted = source.model.vocab_size, config.model.vocab_size
    assert known is not None and wanted is not None
    if wanted > known and config.start_from_options.new_rows == "mean":
        raise ConfigError(
            f"is mean, and method.name={config.method.name} freezes the embedding: {wanted - known} new ids would stay"
            " the same to the model",
            where="start_from_options.new_rows",
            expected="drawn, or a vocabulary (of instruct: a chat.template) whose tokens the model knows",
        )


def started_line(record: Mapping[str, Any] | None) -> str | None:
    """Where a run's first weights came from, in words; None: they were drawn."""
    if record is None:
        return None
    step = record.get("step")
    what = record.get("architecture") if record.get("kind") == "huggingface" else f"step {step}"
    return f"{record.get('path')} ({what})"


def _resume_notes(config: RunConfig, saved: Mapping[str, Any]) -> list[str]:
    record = saved.get(RECORD_KEY)
    at = f"the run goes on from its checkpoint of step {saved.get('step')}, and start_from is not read again"
    assert config.start_from is not None
    if record is None:
        return [f"{at}: start_from={config.start_from} is ignored, the run began with drawn weights"]
    given, known = config.start_from.absolute(), str(record.get("path"))
    # A run's directory was given where one of its checkpoints was read.
    if known == str(given) or known.startswith(f"{given}/"):
        return [at]
    return [f"{at}: the run began with the weights of {known}, and start_from={config.start_from} is ignored"]


def _tokenizer_notes(source: StartSource, config: RunConfig, data: RunData) -> list[str]:
    fingerprint = data.tokenizer_fingerprint
    same = source.is_same_tokenizer(fingerprint, data.tokenizer if fingerprint is not None else None)
    if same is None:
        return [f"nobody recorded which tokenizer {source.path} was trained with: it was not compared"]
    if same:
        return []
    known = source.record().get("tokenizer_fingerprint")
    told = f"another tokenizer ({known}) than data.tokenizer" if known else "another vocabulary than data.tokenizer"
    if config.start_from_options.accept_tokenizer:
        by = "start_from_options.accept_tokenizer"
        return [f"the source was trained with {told} ({fingerprint}), which is accepted ({by})"]
    raise DataError(
        f"was trained with {told} ({fingerprint}): the same id means other text",
        where=f"start_from = {source.path}",
        expected="corpora tokenized with the source's tokenizer (python -m data_prep import-tokenizer), or"
        " start_from_options.accept_tokenizer=true",
    )
