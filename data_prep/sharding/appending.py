"""`tokenize append=true`: new files become further shards of a finished corpus.

They are tokenized to a corpus of their own, `OUTPUT.appending`, which is then joined with the one that is there: in a
new directory with links to the shards of both, which takes the place of the old one in one step. Shards that were there
keep their names and their bytes, so that who reads them goes on; the fingerprint is that of the longer list of shards.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np

from configs.errors import DataError
from data_prep.config import TokenizeConfig
from data_prep.corpus.corpus import Corpus
from data_prep.corpus.manifest import (
    MANIFEST,
    TOKEN_COUNTS,
    TOKENIZER,
    CorpusManifest,
    ShardEntry,
    joined_manifest,
)
from data_prep.corpus.shards import bin_path, idx_path, metadata_path
from data_prep.reading.files import is_url
from data_prep.reading.input_patterns import named_patterns
from data_prep.reading.inputs import InputFile, find_files
from data_prep.reading.standard_input import is_read_once
from data_prep.sharding.plan import PLAN, ShardingPlan, refuse_changes
from data_prep.sharding.planning import LOCK, refuse_damage
from data_prep.storage.locks import locked
from data_prep.storage.publishing import staged_directory
from data_prep.storage.replaceable import check_replaceable
from data_prep.tokenizer import load_tokenizer

_SETTINGS = (
    "the settings and the tokenizer that it was made with; a corpus made with others can be in a mixture with it"
)


def settings_of_new_files(config: TokenizeConfig) -> TokenizeConfig | None:
    """What makes a corpus of the files that are not in the corpus `config.output` yet; None: all are.

    Raises:
        DataError: if there is no such corpus, it was made with other settings, a file in it has changed since, or what
            is new can be read only once.
    """
    for pattern in filter(is_read_once, named_patterns(config.input)):
        shown = "standard input" if pattern == "-" else pattern
        raise DataError("cannot be appended, as it can be read only once", where=shown, expected="a file that stays")
    output = config.output
    Corpus.open(output)  # says what is wrong with it
    if not (output / PLAN).is_file():
        expected = "one that `tokenize` wrote; tokenize the new files to a corpus of their own and `merge` the two"
        raise DataError(f"does not say which files it was made of: it has no {PLAN}", where=output, expected=expected)
    plan = ShardingPlan.read(output)
    refuse_changes(plan, config, load_tokenizer(config.tokenizer).fingerprint, plan.files, output, _SETTINGS)
    refuse_damage(output, CorpusManifest.read(output))
    check_replaceable(output, MANIFEST, overwrite=True)
    _remove_if_joined(config.appending, plan)
    files = find_files(config)
    new = _new_files(plan, files, output)
    paths = [file.path for file in new]
    given = set(paths)
    there = [file.path for file in files if file.path not in given]
    if there:
        text = f"in the corpus already: {len(there):,} of {len(files):,} files, such as {there[0]}"
        print(text, file=sys.stderr, flush=True)
    return config.model_copy(update={"append": False, "output": config.appending, "input": paths}) if new else None


def join_new_files(config: TokenizeConfig) -> CorpusManifest:
    """Add the corpus `config.appending` to the corpus `config.output`; whoever comes later finds it done.

    Raises:
        DataError: if a corpus is damaged, or a file changed, in the meantime.
        MachineError: if it cannot be written.
    """
    output, added = config.output, config.appending
    try:
        with locked(added / LOCK, wait=True):
            plan = ShardingPlan.read(output)
            if (added / PLAN).is_file() and not _remove_if_joined(added, plan):
                _join(output, plan, added)
                shutil.rmtree(added, ignore_errors=True)
    except FileNotFoundError:
        pass  # another process was quicker
    return CorpusManifest.read(output)


def _join(output: Path, plan: ShardingPlan, added: Path) -> None:
    new = ShardingPlan.read(added)
    corpora = [Corpus.open(output), Corpus.open(added)]
    manifests = [corpus.manifest for corpus in corpora if corpus.manifest is not None]
    joined = ShardingPlan(
        plan.recipe, plan.tokenizer, plan.engine, plan.files + new.files, plan.left_out + new.left_out,
        plan.shards + new.shards,
    )  # fmt: skip
    entries: list[ShardEntry] = []
    with staged_directory(output, MANIFEST, overwrite=True) as directory:
        for corpus, manifest, first in zip(corpora, manifests, (0, len(plan.shards))):
            for entry in manifest.shards:
                number = first + int(entry.name.rpartition("_")[2])
                entries.append(entry.model_copy(update={"name": f"shard_{number:05d}"}))
                for path in (bin_path, idx_path, metadata_path):
                    source = path(corpus.path / entry.name)
                    if path is not metadata_path or source.exists():
                        _link(source, path(directory / entries[-1].name))
        shutil.copytree(output / TOKENIZER, directory / TOKENIZER)
        np.save(directory / TOKEN_COUNTS, sum(corpus.token_counts() for corpus in corpora))
        joined.write(directory)
        joined_manifest(manifests, entries).write(directory)
    if (output / "ngram.json").exists():
        print("ngram.json was that of the corpus before: run `ngram` again", file=sys.stderr, flush=True)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)


def _remove_if_joined(added: Path, plan: ShardingPlan) -> bool:
    """Remove what a process left that was killed after it had joined; whether it was so."""
    if not (added / PLAN).is_file() or _new_files(plan, ShardingPlan.read(added).files, added):
        return False
    shutil.rmtree(added, ignore_errors=True)
    return True


def _new_files(plan: ShardingPlan, files: list[InputFile], output: Path) -> list[InputFile]:
    """Those of `files` that are not in a corpus yet.

    A file is told by its place or, where nothing is at that place now, by its name, size and time of change.

    Raises:
        DataError: if one is in it, but has changed since.
    """
    by_place = {_place(file.path): file for file in plan.files}
    moved = {(Path(file.path).name, file.state) for file in plan.files if not Path(_place(file.path)).exists()}
    new = []
    for file in files:
        known = by_place.get(_place(file.path))
        if known is not None and known.state != file.state:
            raise DataError(
                f"is in {output} already, but has changed since: it had {known.state.size_bytes:,} bytes, has"
                f" {file.state.size_bytes:,}" + (", written later" * (known.state.size_bytes == file.state.size_bytes)),
                where=file.path,
                expected="the file as it was, or new files alone; a corpus of the changed file is made anew",
            )
        if known is None and (Path(file.path).name, file.state) not in moved:
            new.append(file)
    return new


def _place(path: str) -> str:
    return path if is_url(path) else os.path.realpath(path)
