"""The ways from text to ids that `benchmarks/tokenization.py` compares: each is `path -> (CPU seconds, wall seconds)`.

Loading vocabularies is not counted, nor anything else that is done once however long the text is.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

Engine = Callable[[Path], tuple[float, float]]


class Stopwatch:
    """CPU and wall seconds of a `with` block."""

    def __enter__(self) -> Stopwatch:
        self._start = (time.process_time(), time.perf_counter())
        return self

    def __exit__(self, *error: object) -> None:
        self.cpu_s = time.process_time() - self._start[0]
        self.wall_s = time.perf_counter() - self._start[1]

    @property
    def times(self) -> tuple[float, float]:
        """Both."""
        return self.cpu_s, self.wall_s


def raw(model: Path) -> Engine:
    """The library alone, on texts that lie in memory: reading them is not counted."""
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor(model_file=str(model))

    def run(path: Path) -> tuple[float, float]:
        with path.open("rb") as stream:
            texts = [orjson.loads(line)["text"] for line in stream]
        with Stopwatch() as watch:
            for start in range(0, len(texts), 256):
                processor.encode(texts[start : start + 256], num_threads=1)
        return watch.times

    return run


def ours(tokenizer: Path, output: Path) -> Engine:
    """From a file of JSON lines to committed shards, by one worker."""
    from data_prep.config import TokenizeConfig
    from data_prep.sharding import encoding
    from data_prep.sharding.held_tokenizer import held_tokenizer, let_tokenizer_go
    from data_prep.sharding.planning import Work, begin

    def run(path: Path) -> tuple[float, float]:
        work = begin(TokenizeConfig(input=[str(path)], tokenizer=tokenizer, output=output))
        assert isinstance(work, Work)
        tasks = work.tasks
        # A new one, which remembers no words yet; loading it and showing that it is right are not counted.
        let_tokenizer_go()
        held_tokenizer(tasks[0].tokenizer, tasks[0].engine).explain_engine()
        with Stopwatch() as watch:
            for task in tasks:
                encoding.make_shard(task)
        shutil.rmtree(work.partial)
        return watch.times

    return run


def datatrove(tokenizer_json: Path, output: Path) -> Engine:
    """The reader of datatrove and its tokenizer step."""
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer
    from loguru import logger

    logger.remove()

    def run(path: Path) -> tuple[float, float]:
        reader = JsonlReader(str(path.parent), glob_pattern=path.name)
        step = DocumentTokenizer(
            str(output), str(tokenizer_json), save_filename="shard", eos_token="</s>", shuffle_documents=False
        )
        _ = step.tokenizer  # loads the vocabulary
        with Stopwatch() as watch:
            step.run(reader(None, 0, 1), 0, 1)
        shutil.rmtree(output)
        return watch.times

    return run


def datasets_map(tokenizer_json: Path, cache: Path) -> Engine:
    """`datasets` with the `tokenizers` library in batches, as its documentation recommends."""
    import datasets
    from tokenizers import Tokenizer

    datasets.disable_progress_bars()
    tokenizer = Tokenizer.from_file(str(tokenizer_json))

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"ids": [found.ids for found in tokenizer.encode_batch_fast(batch["text"], add_special_tokens=False)]}

    def run(path: Path) -> tuple[float, float]:
        with Stopwatch() as watch:
            loaded = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(cache))
            loaded.map(encode, batched=True, remove_columns=loaded.column_names, load_from_cache_file=False)
        shutil.rmtree(cache)
        return watch.times

    return run


@contextlib.contextmanager
def packed(path: Path) -> Iterator[dict[str, Path]]:
    """The same lines plain and compressed, by ending."""
    import gzip

    import zstandard

    plain = path.read_bytes()
    files = {".jsonl": path, ".jsonl.gz": path.with_suffix(".jsonl.gz"), ".jsonl.zst": path.with_suffix(".jsonl.zst")}
    files[".jsonl.gz"].write_bytes(gzip.compress(plain, 6))
    files[".jsonl.zst"].write_bytes(zstandard.compress(plain, 3))
    try:
        yield files
    finally:
        for file in files.values():
            file.unlink()


def read_raw(path: Path) -> tuple[float, float]:
    """All texts of a file by the libraries alone."""
    import gzip
    import io

    import zstandard

    def opened() -> io.BufferedIOBase:
        if path.suffix == ".gz":
            return gzip.open(path, "rb")
        if path.suffix == ".zst":
            return io.BufferedReader(zstandard.open(path, "rb"), 1 << 20)
        return path.open("rb")

    with Stopwatch() as watch, opened() as stream:
        for line in stream:
            _ = orjson.loads(line)["text"]
    return watch.times


def read_ours(path: Path) -> tuple[float, float]:
    """All texts of a file by our reader."""
    from data_prep.config import SourceConfig
    from data_prep.reading.documents import ReadCounts
    from data_prep.reading.inputs import find_files, work_units
    from data_prep.reading.readers import read_batches

    config = SourceConfig(input=[str(path)])
    units = work_units(find_files(config), config)
    with Stopwatch() as watch:
        for unit in units:
            for _ in read_batches(unit, config, ReadCounts()):
                pass
    return watch.times
