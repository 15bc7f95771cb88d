"""`inspect`: what a corpus holds, the text of its documents, and which of them contain something."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from configs.errors import DataError
from data_prep.corpus.corpus import Corpus
from data_prep.corpus.shard_pieces import IndexPieces, read_shard_documents
from data_prep.corpus.shards import ShardReader, metadata_path
from data_prep.corpus_tools.lengths import LengthHistogram
from data_prep.corpus_tools.statistics import entropy_nats
from data_prep.parallel.executor import available_cores, open_executor, run_tasks
from data_prep.parallel.progress import WorkProgress
from data_prep.parallel.tally import TaskTally
from data_prep.tokenizer import Tokenizer, load_tokenizer

_QUANTILES = (0, 10, 50, 90, 99, 100)
_EXCERPT_CHARS = 60
_SEARCH_TOKENS = 1 << 20


def describe_corpus(corpus: Corpus) -> list[str]:
    """Lines with the counts of a corpus and the distribution of its documents' lengths."""
    counts = corpus.token_counts()
    lengths = LengthHistogram.of(corpus)
    named = ", ".join(f"p{q} {lengths.quantile(q / 100):,}" for q in _QUANTILES)
    sequences = sum(IndexPieces(shard).num_sequences for shard in corpus.shards)
    used = int(np.count_nonzero(counts))
    lines = [
        f"corpus           {corpus.path}",
        f"fingerprint      {corpus.fingerprint}",
        f"shards           {len(corpus.shards)} of {corpus.shards[0].dtype.name if corpus.shards else 'nothing'}",
        f"documents        {corpus.num_documents:,}",
        f"tokens           {corpus.num_tokens:,}",
        f"document tokens  {named if lengths.documents else ''}",
        f"ids in use       {used:,} of {corpus.vocab_size or len(counts):,}",
        f"unigram entropy  {entropy_nats(counts):.4f} nats per token",
    ]
    if corpus.text_bytes is not None:
        per_token = corpus.text_bytes / max(1, corpus.num_tokens)
        lines.insert(5, f"text             {corpus.text_bytes:,} bytes, {per_token:.3f} per token")
    if sequences != corpus.num_documents:
        lines.insert(4, f"sentences        {sequences:,}")
    if any(metadata_path(shard.prefix).exists() for shard in corpus.shards):
        lines.append("metadata         beside the shards")
    return lines


@dataclass(frozen=True)
class Shown:
    """One document as it is shown.

    Attributes:
        number: counted from 0 over all shards.
        shard: the shard's name.
        sentences: text of each of its sequences; of most corpora it is one.
        tokens: how many it has.
        metadata: what lies beside the shard; None without.
    """

    number: int
    shard: str
    sentences: list[str]
    tokens: int
    metadata: dict[str, Any] | None

    def heading(self) -> str:
        """One line that says which it is."""
        sentences = f", {len(self.sentences)} sentences" if len(self.sentences) > 1 else ""
        return f"== document {self.number} ({self.shard}, {self.tokens:,} tokens{sentences})"

    def text(self) -> str:
        """Metadata if there is any, then the text; each of several sentences on a line with its number."""
        lines = [] if self.metadata is None else [f"metadata: {orjson.dumps(self.metadata).decode()}"]
        if len(self.sentences) > 1:
            lines += [f"[{number}] {text}" for number, text in enumerate(self.sentences)]
        else:
            lines += self.sentences
        return "\n".join(lines)


def decoder_of(corpus: Corpus, tokenizer: Path | None = None) -> Tokenizer:
    """The tokenizer that spells a corpus: the named one, else the corpus' own.

    Raises:
        DataError: if there is none, or it is damaged.
    """
    path = tokenizer or corpus.tokenizer_path
    if path is None:
        raise DataError("has no tokenizer with it", where=corpus.path, expected="--tokenizer DIRECTORY")
    return load_tokenizer(path)


def show_document(corpus: Corpus, number: int, tokenizer: Tokenizer) -> Shown:
    """Document `number`, counted from 0 over all shards.

    Raises:
        DataError: if there is no such document, or its ids are not the tokenizer's.
    """
    if not 0 <= number < corpus.num_documents:
        expected = f"0 to {corpus.num_documents - 1:,}" if corpus.num_documents else "nothing: the corpus is empty"
        raise DataError(f"there is no document {number}", where=corpus.path, expected=expected)
    within = number
    for shard in corpus.shards:
        if within < shard.num_documents:
            break
        within -= shard.num_documents
    index = IndexPieces(shard)
    first, end = index.bounds(within, within + 2).tolist()
    (document,) = read_shard_documents(shard, within, within + 1)  # looks at the index before anything is read by it
    lengths = index.lengths(first, end)
    if int(lengths.sum()) != len(document.tokens):
        raise DataError(f"gives document {within} other bounds than its sequences have", where=index.path)
    sentences = np.split(document.tokens, np.cumsum(lengths)[:-1]) if len(lengths) else []
    texts = [decode(sentence, tokenizer, shard.prefix) for sentence in sentences]
    return Shown(number, shard.prefix.name, texts, len(document.tokens), _metadata(shard, within))


def decode_document(corpus: Corpus, number: int, tokenizer: Tokenizer | None = None) -> str:
    """Text of document `number`, its sentences joined as they were.

    Raises:
        DataError: see `show_document`; or if there is no tokenizer.
    """
    return "".join(show_document(corpus, number, tokenizer or decoder_of(corpus)).sentences)


def random_documents(corpus: Corpus, count: int, seed: int) -> list[int]:
    """Numbers of `count` documents, in order, none twice; the same for the same seed.

    Raises:
        DataError: if there are no documents.
    """
    if not corpus.num_documents:
        raise DataError("has no documents", where=corpus.path)
    generator = np.random.default_rng(seed)
    chosen = generator.choice(corpus.num_documents, min(count, corpus.num_documents), replace=False, shuffle=False)
    return sorted(int(number) for number in chosen)


@dataclass(frozen=True)
class Match:
    """A document that contains the text searched for.

    Attributes:
        number: counted from 0 over all shards.
        shard: the shard's name.
        times: how often the text occurs in it.
        excerpt: the first place, with what stands around it; line breaks are written as spaces.
    """

    number: int
    shard: str
    times: int
    excerpt: str

    def __str__(self) -> str:
        times = f", {self.times} times" if self.times > 1 else ""
        return f"document {self.number} ({self.shard}{times}): {self.excerpt}"


@dataclass(frozen=True)
class _SearchTask:
    prefix: Path
    first: int
    end: int
    before: int
    text: str
    ignore_case: bool
    tokenizer: Path


def search_corpus(
    corpus: Corpus,
    text: str,
    *,
    limit: int,
    ignore_case: bool = False,
    tokenizer: Path | None = None,
    workers: int | None = None,
) -> Iterator[Match]:
    """The first `limit` documents that contain `text`, in order; decodes them in parallel, some thousand at a time.

    Raises:
        DataError: if there is no tokenizer, or the ids are not its.
    """
    path = tokenizer or corpus.tokenizer_path
    decoder_of(corpus, tokenizer)
    assert path is not None
    tasks = list(_search_tasks(corpus, text, ignore_case, path))
    workers = max(1, min(workers or available_cores(), len(tasks)))
    sizes = [corpus.num_tokens // max(1, len(tasks))] * len(tasks)
    waiting: dict[int, list[Match]] = {}
    following = found = 0
    tally = TaskTally()
    with (
        WorkProgress("search", sum(sizes), tally.look),
        open_executor(workers, ["data_prep.corpus_tools.inspection"]) as executor,
    ):
        assert executor is not None, "no MPI ranks here"
        for number, matches in run_tasks(executor, _search, tasks, in_flight=2 * workers if workers > 1 else 1):
            waiting[number] = matches
            tally.advance(sizes[number], sizes[number])
            while following in waiting:
                for match in waiting.pop(following):
                    if found < limit:
                        yield match
                    found += 1
                following += 1
            if found >= limit:
                return


def decode(tokens: np.ndarray, tokenizer: Tokenizer, where: Path) -> str:
    """Text of ids [tokens] of the shard `where`.

    Raises:
        DataError: if an id is not the tokenizer's.
    """
    if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < tokenizer.vocab_size:
        bad = int(tokens.max()) if int(tokens.min()) >= 0 else int(tokens.min())
        raise DataError(
            f"holds the token id {bad}: this is not its tokenizer",
            where=where,
            expected=f"ids from 0 to {tokenizer.vocab_size - 1}",
        )
    return tokenizer.decode(tokens.tolist())


def _search_tasks(corpus: Corpus, text: str, ignore_case: bool, tokenizer: Path) -> Iterator[_SearchTask]:
    before = 0
    for shard in corpus.shards:
        for first, starts in IndexPieces(shard).document_pieces():
            done = 0
            while done < len(starts) - 1:
                stop = max(done + 1, int(np.searchsorted(starts, starts[done] + _SEARCH_TOKENS, side="right")) - 1)
                yield _SearchTask(shard.prefix, first + done, first + stop, before, text, ignore_case, tokenizer)
                done = stop
        before += shard.num_documents


def _search(task: _SearchTask) -> list[Match]:
    tokenizer = _tokenizer(task.tokenizer)
    pattern = re.compile(re.escape(task.text), re.IGNORECASE if task.ignore_case else 0)
    matches = []
    for piece in read_shard_documents(ShardReader(task.prefix), task.first, task.end):
        for number, tokens in enumerate(piece, start=piece.first):
            text = decode(tokens, tokenizer, task.prefix)
            if (found := pattern.search(text)) is not None:
                times = sum(1 for _ in pattern.finditer(text))
                matches.append(Match(task.before + number, task.prefix.name, times, _excerpt(text, *found.span())))
    return matches


def _excerpt(text: str, begin: int, end: int) -> str:
    low, high = max(0, begin - _EXCERPT_CHARS), min(len(text), end + _EXCERPT_CHARS)
    parts = (text[low:begin], text[begin:end], text[end:high])
    before, match, after = (re.sub(r"\s+", " ", part) for part in parts)
    return f"{'...' if low else ''}{before}»{match}«{after}{'...' if high < len(text) else ''}"


def _metadata(shard: ShardReader, number: int) -> dict[str, Any] | None:
    path = metadata_path(shard.prefix)
    if not path.exists():
        return None
    with path.open("rb") as stream:
        line = next(islice(stream, number, None), b"")
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise DataError(f"has no JSON object in line {number + 1}", where=path, expected="a line for each document")
    return value


@lru_cache(maxsize=1)
def _tokenizer(path: Path) -> Tokenizer:
    return load_tokenizer(path)
