"""Samples per CPU-second of `BatchLoader` beside a bare loop over a memory map, in the same run.

The bare loop does what a minimal trainer does: it takes random windows of the flat token file and makes the same
int64 tensors of them. It knows no documents, epochs, mixtures or resumption. Both run in one thread, from the page
cache, taking turns; the rates are per second of CPU time, so that other work on the machine matters less, and the
ratio is the median over the turns.

    python benchmarks/data_loading.py [--samples N] [--document-tokens N ...]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from data_prep.corpus import Corpus
from data_prep.corpus.shard_writer import ShardWriter
from pretrain.data.documents import Documents
from pretrain.data.loader import BatchLoader
from pretrain.data.permutation import Permutation
from pretrain.data.stream import SampleStream
from pretrain.data.token_facts import TokenFacts
from pretrain.data.token_stream import TokenStream
from pretrain.models.gpt.config import GPTConfig
from pretrain.objectives.causal import CausalObjective
from pretrain.objectives.causal_config import CausalConfig
from pretrain.objectives.objective import ObjectiveContext

SEQ_LENGTH = 2048
MICRO_BATCH_SIZE = 4
GLOBAL_BATCH_SIZE = 32
VOCAB_SIZE = 50_000
RESULTS = Path(__file__).parent / "results" / "data_loading.json"


def write_corpus(path: Path, num_tokens: int, mean_document_tokens: int) -> Corpus:
    """A shard of random ids in documents whose lengths are exponentially distributed."""
    generator = np.random.default_rng(0)
    lengths = 1 + generator.exponential(mean_document_tokens, num_tokens // mean_document_tokens).astype(np.int64)
    with ShardWriter(path, np.dtype("<u2")) as writer:
        writer.add_documents(generator.integers(0, VOCAB_SIZE, int(lengths.sum())).astype("<u2"), lengths)
    return Corpus.open(path)


def bare_loop(tokens: np.memmap, batches: int) -> None:
    generator = np.random.default_rng(1)
    for _ in range(batches * GLOBAL_BATCH_SIZE // MICRO_BATCH_SIZE):
        places = generator.integers(0, len(tokens) - SEQ_LENGTH - 1, MICRO_BATCH_SIZE)
        torch.stack([torch.from_numpy(tokens[i : i + SEQ_LENGTH].astype(np.int64)) for i in places])
        torch.stack([torch.from_numpy(tokens[i + 1 : i + 1 + SEQ_LENGTH].astype(np.int64)) for i in places])


def read_all(loader: BatchLoader, batches: int) -> None:
    for batch in range(batches):
        loader.global_batch(batch * GLOBAL_BATCH_SIZE, GLOBAL_BATCH_SIZE)


def samples_per_second(task: Callable[[int], None], batches: int) -> float:
    began = time.process_time()
    task(batches)
    return batches * GLOBAL_BATCH_SIZE / (time.process_time() - began)


def measure(corpus: Corpus, index_cache: Path, batches: int, rounds: int = 7) -> dict[str, float]:
    documents = Documents(corpus, "all", (1.0, 0.0, 0.0), index_cache)
    model = GPTConfig(num_layers=1, hidden_size=8, num_attention_heads=1, seq_length=SEQ_LENGTH)
    loaders = []
    for apart in (False, True):
        sampling = CausalConfig().sampling(model, documents_apart=apart)
        samples = TokenStream(corpus, documents, sampling, 1, endless=True)
        context = ObjectiveContext(model, TokenFacts(VOCAB_SIZE), seed=1, documents_apart=apart)
        stream = SampleStream("train", [samples], [1.0], sampling, VOCAB_SIZE)
        loaders.append(BatchLoader(stream, CausalObjective(CausalConfig(), context), MICRO_BATCH_SIZE))
    plain, reset = loaders
    tasks: dict[str, Callable[[int], None]] = {
        "bare_memmap": lambda n: bare_loop(corpus.shards[0].tokens, n),
        "batch_loader": lambda n: read_all(plain, n),
        "batch_loader_reset_at_documents": lambda n: read_all(reset, n),
    }
    for task in tasks.values():
        task(2)
    turns = [{name: samples_per_second(task, batches) for name, task in tasks.items()} for _ in range(rounds)]
    rates = {name: statistics.median(turn[name] for turn in turns) for name in tasks}
    ratios = [turn["batch_loader"] / turn["bare_memmap"] for turn in turns]
    return rates | {"ratio_to_bare": statistics.median(ratios)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=4096, help="samples per measurement")
    parser.add_argument("--tokens", type=int, default=50_000_000, help="tokens in the corpus")
    parser.add_argument("--document-tokens", type=int, nargs="+", default=[1000, 200], help="mean document lengths")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, object] = {
        "seq_length": SEQ_LENGTH,
        "micro_batch_size": MICRO_BATCH_SIZE,
        "unit": "samples per CPU-second",
    }
    for mean in arguments.document_tokens:
        with tempfile.TemporaryDirectory() as directory:
            corpus = write_corpus(Path(directory) / "corpus", arguments.tokens, mean)
            rates = measure(corpus, Path(directory) / "index", arguments.samples // GLOBAL_BATCH_SIZE)
        results[f"documents_of_{mean}_tokens"] = {key: round(value, 3) for key, value in rates.items()}
        print(f"documents of {mean} tokens:", results[f"documents_of_{mean}_tokens"])
    began = time.process_time()
    Permutation(10_000_000, 1)(np.arange(10_000_000))
    results["permutation_elements_per_cpu_s"] = round(1e7 / (time.process_time() - began))
    print("permutation:", results["permutation_elements_per_cpu_s"], "elements per CPU-second")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
