"""The model of a run that starts from another's weights: filled in from the source, and compared with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.errors import CheckpointError, ConfigError
from configs.paths import input_path, output_path
from pretrain.checkpoint.compatibility import section_changes, table_of
from pretrain.checkpoint.directory import list_checkpoints
from pretrain.checkpoint.model_checkpoint import ModelCheckpoint, open_checkpoint
from pretrain.checkpoint.reader import find_checkpoints
from pretrain.config.kinds import FAMILIES
from pretrain.config.model import ModelConfig
from pretrain.config.starting import StartOptions
from pretrain.starting.source import StartSource, open_source
from pretrain.starting.tables import longest_text, position_tables, token_tables

LENGTH_KEYS = ("seq_length", "decoder_seq_length")
SIZED_KEYS = ("vocab_size", "vocab_multiple", *LENGTH_KEYS)
"""What may differ by rules of its own."""
ROTARY_KEYS = ("rotary_base", "rotary_scaling", "global_rotary_base", "local_rotary_base")
"""What decides the angles of rotary positions, of which no weight knows."""


def complete_model(raw: dict[str, Any]) -> dict[str, Any]:
    """The values of a run's config with what its `model` leaves out, as its source says it.

    A run that has checkpoints takes it from the newest one: its source is not looked at any more. The source is
    `start_from`, or `checkpoint.branch_from`, whose vocabulary is the run's own.

    Args:
        raw: merged from files and settings, not validated.

    Raises:
        UserError: the source is none, or of another family.
    """
    source, given = raw.get("start_from"), raw.get("model")
    branches = source is None
    if branches:
        source = _branch_source(raw)
    if not isinstance(source, str | Path) or not isinstance(given if given is not None else {}, Mapping):
        return raw
    given = dict(given or {})
    saved = _saved(raw)
    model = saved.model if saved is not None else open_source(input_path(str(source))).model
    name = given.get("name", model.name)
    if name != model.name:
        if saved is None and _declares(name) is not type(model):
            raise ConfigError(
                f"{name}, and {source} is of the family {model.name}",
                where="model.name",
                expected=f"{model.name}, or nothing: the source says it",
            )
        return raw
    known = model.model_dump(mode="json")
    if saved is None and not branches:
        # The corpora may have more ids than the source.
        known.pop("vocab_size")
    return raw | {"model": known | given}


def _branch_source(raw: Mapping[str, Any]) -> str | None:
    """`checkpoint.branch_from`, where it names checkpoints; the preflight tells what is wrong with another one."""
    checkpoint = raw.get("checkpoint")
    path = checkpoint.get("branch_from") if isinstance(checkpoint, Mapping) else None
    if not isinstance(path, str | Path):
        return None
    try:
        find_checkpoints(input_path(str(path)))
    except CheckpointError:
        return None
    return str(path)


def newest_readable(root: Path) -> ModelCheckpoint | None:
    """The newest checkpoint in `root` that says what it holds: of one that is damaged, the one before; None: no one.

    Raises:
        CheckpointError: there are some, and none can be read.
    """
    problem = None
    for _, path in reversed(list_checkpoints(root)):
        try:
            return open_checkpoint(path, may_be_adapter=True)
        except CheckpointError as error:
            problem = problem or error
    if problem is not None:
        raise problem
    return None


def _saved(raw: Mapping[str, Any]) -> ModelCheckpoint | None:
    output, saving = raw.get("output"), raw.get("checkpoint")
    resumes = not (isinstance(saving, Mapping) and saving.get("resume") == "never")
    if not resumes or not isinstance(output, str | Path):
        return None
    return newest_readable(output_path(str(output)) / "checkpoints")


def _declares(name: Any) -> type | None:
    try:
        return FAMILIES.declaration(str(name))
    except ValueError:
        return None


def check_model(source: StartSource, model: ModelConfig, options: StartOptions) -> list[str]:
    """Refuse a model that the weights of a source are not of.

    Args:
        source: the weights.
        model: of the run; `vocab_size` is known.
        options: what is accepted.

    Returns:
        what is done where the two differ, a sentence each.

    Raises:
        CheckpointError: the model differs in what decides what the weights compute: lists key, source, now.
    """
    free = {*SIZED_KEYS, *model.drawing_keys, *model.dropout_keys}
    changes = {
        f"model.{key}": pair
        for key, pair in section_changes(FAMILIES, source.model.model_dump(mode="json"), model).items()
        if key not in free
    }
    rotary = {key: pair for key, pair in changes.items() if key.removeprefix("model.") in ROTARY_KEYS}
    if changes and not (options.rescale_rotary and changes == rotary):
        expected = "the source's values, or a model section that leaves them out"
        if changes == rotary:
            expected += "; or start_from_options.rescale_rotary=true"
        raise CheckpointError(
            f"has another architecture\n{table_of(changes, ('source', 'model'))}",
            where=f"start_from = {source.path}",
            expected=expected,
        )
    notes = [f"{key} is {new}, the source's {old}: other rotary angles" for key, (old, new) in rotary.items()]
    notes += _vocabulary_notes(source, model, options) + _length_notes(source, model, options)
    _check_tensors(source, model)
    return notes


def _vocabulary_notes(source: StartSource, model: ModelConfig, options: StartOptions) -> list[str]:
    known, wanted = source.model.vocab_size, model.vocab_size
    assert known is not None and wanted is not None
    if wanted < known:
        raise CheckpointError(
            f"knows {known} token ids, more than the model's {wanted}: rows would be lost",
            where=f"start_from = {source.path}",
            expected=f"model.vocab_size={known} or more, or null",
        )
    notes = []
    if wanted > known:
        how = {"mean": "the mean of the source's rows", "drawn": "drawn as initial values"}[options.new_rows]
        notes.append(f"the vocabulary grows from {known} to {wanted} ids: the new rows are {how}")
    padding = model.padded_vocab_size - wanted
    if padding and (wanted, model.padded_vocab_size) != (known, source.model.padded_vocab_size):
        notes.append(
            f"{padding} rows of padding (model.vocab_multiple={model.vocab_multiple}) are the mean of the source's"
            " rows; they take part in the softmax"
        )
    return notes


def _length_notes(source: StartSource, model: ModelConfig, options: StartOptions) -> list[str]:
    before, now = source.model.resolved(), model.resolved()
    changed = [key for key in LENGTH_KEYS if now.get(key) != before.get(key)]
    if not changed:
        return []
    told = " and ".join(f"model.{key} is {now[key]}, the source's {before[key]}" for key in changed)
    if not position_tables(model):
        return [f"{told}: positions are not learned, no weight changes"]
    known, wanted = longest_text(source.model), longest_text(model)
    if wanted <= known:
        return [f"{told}: each table of positions keeps its {'rows' if wanted == known else f'first {wanted} rows'}"]
    key = next(key for key in LENGTH_KEYS if now.get(key) == wanted)
    if options.extend_positions is None:
        raise CheckpointError(
            f"has learned positions for {known} tokens, fewer than model.{key}={wanted}",
            where=f"start_from = {source.path}",
            expected=f"model.{key}={known} or less; or start_from_options.extend_positions=interpolate, or repeat",
        )
    how = {"interpolate": "interpolated", "repeat": "repeated"}[options.extend_positions]
    return [f"{told}: the learned positions are {how}"]


def _check_tensors(source: StartSource, model: ModelConfig) -> None:
    """Every tensor of the model is in the source, in its shape where that does not follow from what may differ."""
    sized = token_tables(model) | position_tables(model)
    shapes = {spec.name: spec.shape for spec in model.parameters()}
    for name, shape in shapes.items():
        found = source.shape(name)
        if found is None or (found[1:] if name in sized else found) != (shape[1:] if name in sized else shape):
            told = "is not there" if found is None else f"is {list(found)}"
            raise CheckpointError(f"{name} {told}", where=f"start_from = {source.path}", expected=f"{list(shape)}")
    for name in source.names():
        if name not in shapes:
            raise CheckpointError(f"holds {name}, which the model does not have", where=f"start_from = {source.path}")
