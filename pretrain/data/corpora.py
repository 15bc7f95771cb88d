"""The corpora of a run, opened and checked against each other before anything else starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from configs.errors import ConfigError, DataError
from pretrain.config import DataConfig, WeightedCorpus

if TYPE_CHECKING:
    from data_prep.corpus import Corpus
    from data_prep.tokenizer import Tokenizer


@dataclass(frozen=True)
class Vocabulary:
    """What the ids of all corpora of a run mean.

    Attributes:
        size: ids that the model must know.
        tokenizer_path: the tokenizer's directory; None if the corpora are bare and none is named.
        fingerprint: the tokenizer's; None with tokenizer_path.
        end_of_document_id: the id that ends each document; None if it is not known, or no document has one.
    """

    size: int
    tokenizer_path: Path | None
    fingerprint: str | None
    end_of_document_id: int | None


def open_corpora(config: DataConfig) -> dict[Path, Corpus]:
    """Every corpus that `config` names, by its path there.

    Raises:
        DataError: if one is missing or damaged.
        ConfigError: if a mixture names the same corpus twice.
    """
    from data_prep.corpus import Corpus

    corpora: dict[Path, Corpus] = {}
    for key, mixture in named_mixtures(config):
        seen: dict[str, Path] = {}
        for entry in mixture:
            if entry.corpus not in corpora:
                corpora[entry.corpus] = Corpus.open(entry.corpus)
            fingerprint = corpora[entry.corpus].fingerprint
            if fingerprint in seen:
                raise ConfigError(
                    f"names the same corpus twice: {seen[fingerprint]} and {entry.corpus}",
                    where=key,
                    expected="each corpus once, with the sum of its weights",
                )
            seen[fingerprint] = entry.corpus
    return corpora


def named_mixtures(config: DataConfig) -> Iterator[tuple[str, list[WeightedCorpus]]]:
    """Every mixture of `config` with its key."""
    yield "data.train", config.train
    for name, mixture in config.validation.items():
        yield f"data.validation.{name}", mixture
    for name, mixture in config.test.items():
        yield f"data.test.{name}", mixture


def resolve_vocabulary(
    config: DataConfig, corpora: dict[Path, Corpus], of_model: int | None, *, tokenizer_required: bool
) -> Vocabulary:
    """The one vocabulary of all corpora, the tokenizer and the model.

    Args:
        config: names the tokenizer, if it does.
        corpora: see `open_corpora`.
        of_model: ids that the model is to know; None: those of the corpora.
        tokenizer_required: refuse corpora without a tokenizer.

    Raises:
        DataError: if corpora or tokenizer differ.
        ConfigError: if no size is known, or the model's is too small.
    """
    _check_fingerprints(corpora)
    tokenizer = _named_tokenizer(config, corpora)
    with_one = [corpus for corpus in corpora.values() if corpus.tokenizer_fingerprint is not None]
    path = config.tokenizer or (with_one[0].tokenizer_path if with_one else None)
    if path is None and tokenizer_required:
        raise ConfigError(
            f"no corpus has a tokenizer with it: {', '.join(map(str, corpora))}",
            where="data.tokenizer",
            expected="the directory of the tokenizer that made them",
        )
    fingerprint = end = None
    if tokenizer is not None:
        fingerprint, end = tokenizer.fingerprint, tokenizer.role("end_of_document")
    elif with_one:
        manifest = with_one[0].manifest
        fingerprint, end = with_one[0].tokenizer_fingerprint, manifest.end_of_document if manifest else None
    return Vocabulary(_size(config, corpora, of_model, tokenizer), path, fingerprint, end)


def _check_fingerprints(corpora: dict[Path, Corpus]) -> None:
    known = {path: corpus for path, corpus in corpora.items() if corpus.tokenizer_fingerprint is not None}
    if not known:
        return
    first_path, first = next(iter(known.items()))
    for path, corpus in known.items():
        if corpus.tokenizer_fingerprint != first.tokenizer_fingerprint:
            raise DataError(
                f"was made with the tokenizer {corpus.tokenizer_fingerprint} ({corpus.tokenizer_path}),"
                f" but {first_path} with {first.tokenizer_fingerprint} ({first.tokenizer_path}):"
                " the same id means different text",
                where=path,
                expected="corpora that one tokenizer made; tokenize one of them again",
            )


def _named_tokenizer(config: DataConfig, corpora: dict[Path, Corpus]) -> Tokenizer | None:
    if config.tokenizer is None:
        return None
    from data_prep.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(config.tokenizer)
    for path, corpus in corpora.items():
        if corpus.tokenizer_fingerprint not in (None, tokenizer.fingerprint):
            raise DataError(
                f"has the fingerprint {tokenizer.fingerprint}, but {path} was made with {corpus.tokenizer_fingerprint}"
                f" ({corpus.tokenizer_path})",
                where=f"data.tokenizer {config.tokenizer}",
                expected=f"the tokenizer that made the corpus, or null to take {corpus.tokenizer_path}",
            )
    return tokenizer


def _size(config: DataConfig, corpora: dict[Path, Corpus], of_model: int | None, tokenizer: Tokenizer | None) -> int:
    sizes = {str(path): corpus.vocab_size for path, corpus in corpora.items() if corpus.vocab_size is not None}
    if tokenizer is not None:
        sizes[f"the tokenizer {config.tokenizer}"] = tokenizer.vocab_size
    if not sizes and of_model is None:
        raise ConfigError(
            "is null, and no corpus says how many ids its tokenizer has",
            where="model.vocab_size",
            expected="the number of ids, or data.tokenizer",
        )
    for name, size in sizes.items():
        if of_model is not None and size > of_model:
            raise ConfigError(
                f"is {of_model}, but {name} has {size} ids",
                where="model.vocab_size",
                expected=f"at least {size}, or null to take the tokenizer's",
            )
    return of_model if of_model is not None else max(sizes.values())
