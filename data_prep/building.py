"""`build`: cleaning, tokenizer, shards, verification, statistics; what is done is not done again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import xxhash

from configs.errors import DataError
from data_prep.build_config import BuildConfig
from data_prep.config import MAY_SHARE, OBJECTIVE_ROLES, TokenizerConfig
from data_prep.corpus.corpus import Corpus
from data_prep.reading.inputs import find_files
from data_prep.storage.publishing import staged_file

RECIPE = "recipe.json"


def build(config: BuildConfig, say: Callable[[str], None]) -> None:
    """Make everything that `config` describes, or what is missing of it.

    Args:
        config: what.
        say: prints a line.

    Raises:
        UserError: as the stages; what is finished stays.
    """
    began_s = time.monotonic()
    if config.clean is not None:
        from data_prep.cleaning.run import clean
        from data_prep.cleaning.summary import summarize_cleaning

        with _stage("clean", say):
            cleaned = clean(config.clean)
            _all(summarize_cleaning(cleaned.report, config.clean.output, cleaned.was_there), say)
    if config.train_tokenizer is not None:
        with _stage("train-tokenizer", say):
            _train(config.train_tokenizer, say)
    from data_prep.sharding.tokenization import summarize_tokenization, tokenize

    with _stage("tokenize", say):
        result = tokenize(config.tokenize)
        _all(summarize_tokenization(result, config.tokenize.output), say)
    if result.manifest is None:
        return
    with _stage("verify", say):
        _verify(config.tokenize.output, config.tokenize.workers, say)
    with _stage("stats", say):
        _statistics(config, say)
    if config.ngram_order is not None:
        with _stage("ngram", say):
            _ngram(config.tokenize.output, config.ngram_order, say)
    say(f"== done in {time.monotonic() - began_s:.0f} s: {config.output}")


class _stage:
    """Says what begins, and how long it took."""

    def __init__(self, name: str, say: Callable[[str], None]) -> None:
        self._name, self._say = name, say

    def __enter__(self) -> None:
        self._say(f"== {self._name}")
        self._began_s = time.monotonic()

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            self._say(f"== {self._name} took {time.monotonic() - self._began_s:.1f} s")


def _all(lines: Iterator[str] | list[str], say: Callable[[str], None]) -> None:
    for line in lines:
        say(line)


def _train(config: TokenizerConfig, say: Callable[[str], None]) -> None:
    """Learn the tokenizer, unless it was learned with the same settings from the same files."""
    from data_prep.tokenizer import load_tokenizer
    from data_prep.tokenizer.importing import describe_tokenizer
    from data_prep.tokenizer.training import train_tokenizer

    later = (*MAY_SHARE, *OBJECTIVE_ROLES)
    settings = config.model_dump(mode="json", exclude={"overwrite"})
    # Settings of before these roles: a tokenizer without them was learned the same way.
    special = settings["special_tokens"]
    settings["special_tokens"] = {key: value for key, value in special.items() if value is not None or key not in later}
    files = [[file.path, file.state.size_bytes, file.state.version] for file in find_files(config)]
    recipe = {"settings": settings, "files": xxhash.xxh3_128_hexdigest(orjson.dumps(files))}
    path = config.output / RECIPE
    if path.is_file():
        try:
            before = orjson.loads(path.read_bytes())
        except (OSError, orjson.JSONDecodeError):
            before = None
        if before == recipe:
            _all(describe_tokenizer(load_tokenizer(config.output), config.output), say)
            return say("learned before; nothing was done")
        if not config.overwrite:
            raise DataError(
                "was learned with other settings or from other text",
                where=config.output,
                expected="the same as before, another output, or train_tokenizer.overwrite=true",
            )
    _all(describe_tokenizer(train_tokenizer(config), config.output), say)
    with staged_file(path) as temporary:
        temporary.write_bytes(orjson.dumps(recipe, option=orjson.OPT_INDENT_2) + b"\n")


def _verify(corpus: Path, workers: int | None, say: Callable[[str], None]) -> None:
    from data_prep.corpus_tools.verification import verify_corpus

    found = verify_corpus(corpus, workers=workers)
    _all(found.lines(), say)
    if found.problems.count:
        raise DataError(f"has {found.problems.count:,} problems", where=corpus, expected="a corpus as it was written")


def _statistics(config: BuildConfig, say: Callable[[str], None]) -> None:
    from data_prep.corpus_tools.statistics import describe_statistics, gather, write_json
    from data_prep.corpus_tools.statistics_plot import write_plot

    stats = gather(Corpus.open(config.tokenize.output))
    _all(describe_statistics(stats), say)
    write_json(stats, config.output / "statistics.json")
    write_plot(stats, config.output / "statistics.png")


def _ngram(path: Path, order: int, say: Callable[[str], None]) -> None:
    from data_prep.corpus.split import DEFAULT_SPLIT
    from data_prep.ngram import ngram

    corpus = Corpus.open(path)
    report = ngram.ngram_floor(
        corpus, max_order=order, split=DEFAULT_SPLIT, max_tokens=30_000_000, max_held_out_tokens=2_000_000
    )
    ngram.write_report(report, ngram.report_path(corpus))
    _all(report.lines(), say)
