"""The commands that look at finished corpora: inspect, verify, stats, mix, merge, ngram."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from configs.errors import ConfigError, DataError
from configs.paths import input_path, output_path
from data_prep.commands.command_line import PrintConfig, Recipe, Settings

CorpusPath = Annotated[
    Path, typer.Argument(metavar="CORPUS", parser=input_path, help="A corpus directory or a Megatron prefix.")
]
TokenizerPath = Annotated[
    Path | None,
    typer.Option("--tokenizer", metavar="PATH", parser=input_path, help="Tokenizer directory, for a bare prefix."),
]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Processes; one for each core if not given.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `python -m data_prep`."""
    for name, command in (
        ("inspect", inspect_command),
        ("verify", verify_command),
        ("stats", stats_command),
        ("mix", mix_command),
        ("merge", merge_command),
        ("ngram", ngram_command),
    ):
        app.command(name)(command)


def inspect_command(
    corpus: CorpusPath,
    document: Annotated[list[int] | None, typer.Option(help="Print the text of this document, from 0.")] = None,
    random: Annotated[int | None, typer.Option("--random", min=1, help="Print so many documents, by chance.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides which ones --random prints.")] = 0,
    search: Annotated[str | None, typer.Option(help="Print where this text occurs.")] = None,
    ignore_case: Annotated[bool, typer.Option("--ignore-case", help="Search without regard to case.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Documents that a search prints at most.")] = 20,
    workers: Workers = None,
    tokenizer: TokenizerPath = None,
) -> None:
    """Show what a corpus holds, the text of single documents, or where a text occurs."""
    from data_prep.corpus.corpus import Corpus
    from data_prep.corpus_tools.inspection import (
        decoder_of,
        describe_corpus,
        random_documents,
        search_corpus,
        show_document,
    )

    if search == "":
        raise ConfigError("is empty", where="--search", expected="the text to look for")
    opened = Corpus.open(corpus)
    if search is not None:
        found = 0
        options = {"limit": limit, "ignore_case": ignore_case, "tokenizer": tokenizer, "workers": workers}
        for match in search_corpus(opened, search, **options):  # type: ignore[arg-type]
            _print(str(match))
            found += 1
        if not found:
            _print(f"no document contains {search!r}")
        elif found == limit:
            _print(f"the first {limit} documents are shown; --limit shows more")
        return
    numbers = list(document or []) + (random_documents(opened, random, seed) if random else [])
    if not numbers:
        return _print("\n".join(describe_corpus(opened)))
    decoder = decoder_of(opened, tokenizer)
    for number in numbers:
        shown = show_document(opened, number, decoder)
        if len(numbers) > 1 or random:
            _print(shown.heading())
        _print(shown.text())


def verify_command(
    corpus: CorpusPath,
    workers: Workers = None,
    limit: Annotated[int, typer.Option(min=1, help="Problems of one kind in one file that are printed.")] = 20,
    tokenizer: TokenizerPath = None,
    end_of_document: Annotated[
        int | None, typer.Option(min=0, help="For a bare prefix: the id that must end each document.")
    ] = None,
) -> None:
    """Read a whole corpus; check hashes, index, ids, ends of documents, counts. Status 2 if anything is wrong."""
    from data_prep.corpus_tools.verification import verify_corpus

    result = verify_corpus(corpus, tokenizer=tokenizer, end_of_document=end_of_document, workers=workers, limit=limit)
    for line in result.lines():
        _print(line)
    if count := result.problems.count:
        raise DataError(
            f"has {count:,} problem{'s' if count != 1 else ''}", where=corpus, expected="the corpus as it was written"
        )


def stats_command(
    corpus: CorpusPath,
    top: Annotated[int, typer.Option(min=1, help="How many of the most frequent ids are shown.")] = 20,
    json: Annotated[
        Path | None,
        typer.Option("--json", metavar="PATH", parser=output_path, help="Write everything to this file, too."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="PATH", parser=output_path, help="Draw it as this PNG file.")
    ] = None,
    seq_length: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a sample: how documents fit, are packed, cut and padded.")
    ] = None,
    tokenizer: TokenizerPath = None,
) -> None:
    """Count document lengths, ids, shards and sources of a corpus."""
    from data_prep.corpus.corpus import Corpus
    from data_prep.corpus_tools.statistics import describe_statistics, gather, write_json

    if plot is not None and plot.suffix.lower() != ".png":
        raise ConfigError(f"is {str(plot)!r}", where="--plot", expected="a file ending in .png")
    stats = gather(Corpus.open(corpus), tokenizer, top, seq_length)
    _print("\n".join(describe_statistics(stats, top)))
    if json is not None:
        write_json(stats, json, top)
    if plot is not None:
        from data_prep.corpus_tools.statistics_plot import write_plot

        write_plot(stats, plot)


def mix_command(
    settings: Settings = None,
    config: Recipe = None,
    budget: Annotated[str | None, typer.Option(help="Tokens that the run reads in all, such as 20B.")] = None,
    corpus: Annotated[
        list[str] | None, typer.Option(help="CORPUS[,weight=0.3][,max_epochs=4]; given once for each corpus.")
    ] = None,
    source: Annotated[list[str] | None, typer.Option(hidden=True)] = None,
    alpha: Annotated[float | None, typer.Option(help="Without weights: shares grow with tokens ** alpha.")] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="PATH", help="YAML file for the data section.")
    ] = None,
    print_config: PrintConfig = False,
) -> None:
    """Plan how often each corpus is read for a budget of tokens, and write the mixture for pretraining."""
    from configs.load import find_recipes, load_config, to_yaml
    from data_prep.commands.command_line import override
    from data_prep.corpus_tools.mixing import MixConfig, parse_corpus

    if source:
        print("note: --source is called --corpus now", file=sys.stderr, flush=True)
    corpora = [parse_corpus(text) for text in [*(corpus or []), *(source or [])]] or None
    given = {"budget": budget, "alpha": alpha, "corpora": corpora, "output": output}
    overrides = [override(key, value) for key, value in given.items() if value is not None]
    loaded = load_config(MixConfig, find_recipes(config, "data_prep"), overrides + list(settings or []))
    if print_config:
        return _print(to_yaml(loaded))
    from data_prep.corpus_tools import mixing

    plan = mixing.plan_mixture(loaded, mixing.measure_corpora(loaded))
    _print("\n".join(mixing.describe_mixture(loaded, plan)))
    if loaded.output is not None:
        mixing.write_section(loaded, plan, loaded.output)
        _print(f"written to {loaded.output}")
    else:
        _print("\n" + mixing.section_yaml(loaded, plan))
    if loaded.output is not None:
        mixture = f"--config {shlex.quote(str(loaded.output))}"
    else:
        mixture = " ".join(map(shlex.quote, mixing.training_overrides(loaded, plan)))
    _print(f"next: deepspeed pretrain/main.py --config gpt-125m {mixture} output=runs/mix")


def merge_command(
    corpora: Annotated[
        list[Path],
        typer.Argument(metavar="CORPUS...", parser=input_path, help="Corpus directories or Megatron prefixes."),
    ],
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", parser=output_path, help="The corpus directory to write.")
    ],
    max_shard_bytes: Annotated[int, typer.Option(min=1, help="Size of a .bin file at which the next is begun.")] = (
        1 << 62
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
    tokenizer: TokenizerPath = None,
) -> None:
    """Join corpora in the order given, or copy one into shards of another size. Training needs neither."""
    from data_prep.corpus.corpus import Corpus
    from data_prep.corpus_tools.merging import merge_corpora

    opened = [Corpus.open(path) for path in corpora]
    merged = merge_corpora(opened, output, max_shard_bytes, overwrite, tokenizer)
    before, after = sum(len(corpus.shards) for corpus in opened), len(merged.shards)
    plural = "s" if after != 1 else ""
    _print(f"{merged.documents:,} documents, {merged.tokens:,} tokens: {before} -> {after} shard{plural}")
    _print(f"next: python -m data_prep verify {shlex.quote(str(output))}")


def ngram_command(
    corpus: CorpusPath,
    order: Annotated[int, typer.Option(min=1, max=9, help="Longest n-grams.")] = 5,
    validation: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            parser=input_path,
            help="Corpus that is predicted; else the validation part that pretraining takes.",
        ),
    ] = None,
    split: Annotated[
        tuple[float, float, float], typer.Option(help="Shares that train, validate, test; pretraining's data.split.")
    ] = (0.98, 0.01, 0.01),
    max_tokens: Annotated[int, typer.Option(min=1, help="Training tokens that are counted at most.")] = 30_000_000,
    max_validation_tokens: Annotated[int, typer.Option(min=1, help="Tokens that are predicted at most.")] = 2_000_000,
    json: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="PATH", parser=output_path, help="File for the result; else ngram.json in CORPUS."
        ),
    ] = None,
    tokenizer: TokenizerPath = None,
) -> None:
    """Estimate n-gram models (modified Kneser-Ney): the loss that a neural model must beat."""
    from data_prep.corpus.corpus import Corpus
    from data_prep.ngram.ngram import ngram_floor, report_path, write_report

    if abs(sum(split) - 1.0) > 1e-6 or min(split) < 0 or split[0] <= 0:
        expected = "three shares that sum to 1, the first above 0, such as 0.98 0.01 0.01"
        raise ConfigError(f"is {' '.join(map(str, split))}", where="--split", expected=expected)
    opened = Corpus.open(corpus)
    report = ngram_floor(
        opened,
        max_order=order,
        split=split,
        max_tokens=max_tokens,
        max_held_out_tokens=max_validation_tokens,
        validation=Corpus.open(validation) if validation is not None else None,
        tokenizer=tokenizer,
    )
    path = json or report_path(opened)
    write_report(report, path)
    _print("\n".join([*report.lines(), f"written    {path}"]))


def _print(text: str) -> None:
    print(text.rstrip("\n"), flush=True)
