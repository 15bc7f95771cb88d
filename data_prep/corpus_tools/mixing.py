"""`mix`: how often each corpus is read for a budget of tokens, and the mixture that pretraining then reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import yaml
from pydantic import BeforeValidator, Field, model_validator

from configs.durations import Duration, Units
from configs.errors import ConfigError, DataError, nearest
from configs.paths import InputPath, OutputPath
from configs.section import Section
from data_prep.storage.publishing import staged_file

MANY_EPOCHS = 4.0
"""Up to here repeated text is worth about as much as new one: Muennighoff et al. 2023, "Scaling Data-Constrained
Language Models"."""

_MARK = "# A mixture planned by `python -m data_prep mix`"


def _as_tokens(value: Any) -> Any:
    """`20B` and 20000000000 mean tokens."""
    try:
        return Duration.parse(value)
    except ValueError:
        return f"{value} tokens"


class MixCorpus(Section):
    """One corpus of the mixture."""

    renamed: ClassVar[dict[str, str]] = {"path": "corpus"}

    corpus: InputPath
    """A corpus directory or a Megatron prefix."""
    weight: float | None = Field(default=None, gt=0)
    """Share of the tokens that are to come from it, relative to the other weights; given for all corpora or none."""
    max_epochs: float | None = Field(default=None, gt=0)
    """It is read at most so often; what it cannot give is taken from the others, in proportion. Null: no limit."""


def parse_corpus(text: str) -> dict[str, Any]:
    """Read `corpus=CORPUS,weight=0.3,max_epochs=4` or just `CORPUS`.

    Raises:
        ConfigError: if it is not such a text.
    """
    known = list(MixCorpus.model_fields)
    parts = text.split(",")
    fields: dict[str, Any] = {}
    for number, part in enumerate(parts):
        key, equals, value = part.partition("=")
        if not equals and number == 0:
            key, value = "corpus", part
        key = MixCorpus.renamed.get(key.strip(), key.strip())
        if key not in known or key in fields or not value:
            problem = f"{key} is given twice" if key in fields else f"{part!r} is not a setting of a corpus"
            expected = "corpus=CORPUS[,weight=0.3][,max_epochs=4]"
            raise ConfigError(problem, where=f"--corpus {text}", expected=expected, nearest=nearest(key, known))
        fields[key] = value
    return fields


class MixConfig(Section):
    """`mix`: plan how often each corpus is read for a budget of tokens."""

    renamed: ClassVar[dict[str, str]] = {"sources": "corpora"}

    budget: Annotated[Duration, BeforeValidator(_as_tokens), Units("tokens")]
    """Tokens that the run reads in all, such as `20B tokens`."""
    corpora: list[MixCorpus] = Field(min_length=1)
    """The corpora."""
    alpha: float = Field(default=1.0, ge=0)
    """Without weights, a corpus' share grows with its tokens to this power: 1 in proportion, 0 all alike; between
    them, small corpora are read more often than their size says."""
    split: tuple[float, float, float] = (0.98, 0.01, 0.01)
    """Shares of each corpus' documents that train, validate and test, as in pretraining; only the first is planned."""
    output: OutputPath | None = None
    """YAML file to write the mixture to, a second `--config` of pretraining; null: it is only printed."""

    @model_validator(mode="after")
    def _consistent(self) -> MixConfig:
        without = [str(mixed.corpus) for mixed in self.corpora if mixed.weight is None]
        if without and len(without) < len(self.corpora):
            raise ValueError(f"{without[0]} has no weight, others have; give all corpora one, or none")
        if not without and self.alpha != 1.0:
            raise ValueError("alpha has a meaning only without weights")
        if abs(sum(self.split) - 1.0) > 1e-6 or min(self.split) < 0 or self.split[0] <= 0:
            raise ValueError("split must be three shares that sum to 1, the first above 0, such as [0.98, 0.01, 0.01]")
        return self


@dataclass(frozen=True)
class Available:
    """What one corpus has.

    Attributes:
        path: as it was given.
        tokens: in the documents that train.
        documents: how many of them.
    """

    path: Path
    tokens: int
    documents: int


@dataclass(frozen=True)
class Drawn:
    """What is read of one corpus.

    Attributes:
        available: what it has.
        tokens: how many are read, repeated ones included.
        share: of the budget.
        capped: whether `max_epochs` held it back.
    """

    available: Available
    tokens: float
    share: float
    capped: bool

    @property
    def epochs(self) -> float:
        """How often it is read."""
        return self.tokens / self.available.tokens


def plan_mixture(config: MixConfig, available: list[Available]) -> list[Drawn]:
    """Share out the budget: by weight, and what a capped corpus cannot give goes to the others by their weights.

    Args:
        config: budget, weights, limits.
        available: what each corpus of `config` has, in the same order.

    Raises:
        ConfigError: if the limits leave too few tokens; names the largest budget that they allow.
    """
    budget = float(config.budget.value)
    tokens = np.array([has.tokens for has in available], dtype=np.float64)
    weights = np.array([mixed.weight if mixed.weight is not None else 0.0 for mixed in config.corpora])
    if not weights.any():
        weights = (tokens / tokens.max()) ** config.alpha
    caps = tokens * np.array([np.inf if s.max_epochs is None else s.max_epochs for s in config.corpora])
    if caps.sum() < budget:
        raise ConfigError(
            f"is {int(budget):,}, and the corpora give {int(caps.sum()):,} tokens within their max_epochs",
            where="budget",
            expected=f"at most {int(caps.sum()):,} tokens, higher max_epochs, or more corpora",
        )
    drawn = np.zeros(len(tokens))
    free = np.full(len(tokens), True)
    while True:
        left = budget - drawn[~free].sum()
        drawn[free] = left * weights[free] / weights[free].sum()
        over = free & (drawn > caps)
        if not over.any():
            break
        drawn[over] = caps[over]
        free &= ~over
    return [
        Drawn(has, float(count), float(count / budget), bool(not is_free))
        for has, count, is_free in zip(available, drawn, free)
    ]


def measure_corpora(config: MixConfig) -> list[Available]:
    """Count what the training part of each corpus has, by its index alone.

    Raises:
        DataError: if a corpus is missing, damaged, has nothing to train on, or was made with another tokenizer.
        ConfigError: if a corpus is given twice.
    """
    from data_prep.corpus.corpus import Corpus
    from data_prep.corpus.shard_pieces import IndexPieces
    from data_prep.corpus.split import part_of_documents

    available: list[Available] = []
    first_tokenizer: tuple[Path, str] | None = None
    seen: dict[str, Path] = {}
    for mixed in config.corpora:
        corpus = Corpus.open(mixed.corpus)
        if corpus.fingerprint in seen:
            raise ConfigError(
                f"names the same corpus twice: {seen[corpus.fingerprint]} and {mixed.corpus}",
                where="corpora",
                expected="each corpus once, with the sum of its weights",
            )
        seen[corpus.fingerprint] = mixed.corpus
        corpus.check_index()
        if corpus.tokenizer_fingerprint is not None:
            first_tokenizer = first_tokenizer or (mixed.corpus, corpus.tokenizer_fingerprint)
            if corpus.tokenizer_fingerprint != first_tokenizer[1]:
                raise DataError(
                    f"was made with the tokenizer {corpus.tokenizer_fingerprint}, {first_tokenizer[0]} with"
                    f" {first_tokenizer[1]}: the same id means different text",
                    where=mixed.corpus,
                    expected="corpora that one tokenizer made; tokenize one of them again",
                )
        tokens = documents = before = 0
        for shard in corpus.shards:
            for first, starts in IndexPieces(shard).document_pieces():
                lengths = np.diff(starts)
                parts = part_of_documents(np.arange(len(lengths)) + before + first, config.split)
                training = lengths[parts == 0]
                tokens += int(training.sum())
                documents += int(np.count_nonzero(training))
            before += shard.num_documents
        if not tokens:
            raise DataError(
                "has no documents that train", where=mixed.corpus, expected="a larger corpus or first share"
            )
        available.append(Available(mixed.corpus, tokens, documents))
    return available


def data_section(config: MixConfig, plan: list[Drawn]) -> dict[str, Any]:
    """The `data` section of a pretraining config that reads the plan."""
    mixture = [{"corpus": str(drawn.available.path), "weight": float(f"{drawn.share:.8g}")} for drawn in plan]
    return {"train": mixture, "split": list(config.split)}


def write_section(config: MixConfig, plan: list[Drawn], path: Path) -> None:
    """Write mixture and duration as a YAML file, which pretraining takes as a second `--config`.

    Raises:
        DataError: if the file exists and is not one that this wrote.
        MachineError: if it cannot be written.
    """
    if path.exists() and not (path.is_file() and path.read_bytes().startswith(_MARK.encode())):
        raise DataError("exists and was not written by mix", where=path, expected="a new file")
    with staged_file(path) as temporary:
        temporary.write_text(section_yaml(config, plan), encoding="utf-8")


def section_yaml(config: MixConfig, plan: list[Drawn]) -> str:
    """What `write_section` writes, with absolute paths."""
    table = "".join(f"#   {line}\n" for line in _table(plan))
    section = data_section(config, plan)
    # The file is read from anywhere, not only from where `mix` was called.
    section["train"] = [entry | {"corpus": str(Path(entry["corpus"]).absolute())} for entry in section["train"]]
    planned = {"data": section, "training": {"duration": str(config.budget)}}
    written = yaml.safe_dump(planned, sort_keys=False, allow_unicode=True)
    return f"{_MARK}, for {int(config.budget.value):,} tokens:\n{table}{written}"


def training_overrides(config: MixConfig, plan: list[Drawn]) -> list[str]:
    """The same as overrides of a pretraining recipe."""
    section = data_section(config, plan)
    mixture = ", ".join(f"{{corpus: {json.dumps(s['corpus'])}, weight: {s['weight']!r}}}" for s in section["train"])
    return [f"data.train=[{mixture}]", f"data.split={section['split']}", f"training.duration={config.budget}"]


def describe_mixture(config: MixConfig, plan: list[Drawn]) -> Iterator[str]:
    """The lines that the command prints."""
    yield f"budget  {int(config.budget.value):,} tokens"
    yield from _table(plan)
    for drawn in plan:
        if drawn.epochs > MANY_EPOCHS:
            yield (
                f"warning: {drawn.available.path} is read {drawn.epochs:.1f} times; beyond about {MANY_EPOCHS:g} epochs"
                " repeated text teaches less and less (Muennighoff et al. 2023); max_epochs limits it"
            )


def _table(plan: list[Drawn]) -> Iterator[str]:
    yield f"{'has tokens':>17}  {'share':>7}  {'epochs':>8}  {'draws tokens':>17}  corpus"
    for drawn in plan:
        capped = "  (limited by max_epochs)" if drawn.capped else ""
        yield (
            f"{drawn.available.tokens:>17,}  {drawn.share:7.2%}  {drawn.epochs:8.3f}  {round(drawn.tokens):>17,}"
            f"  {drawn.available.path}{capped}"
        )
