import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import DataError
from data_prep.corpus.shard_writer import ShardWriter
from data_prep.corpus.shards import ShardReader, bin_path, idx_path, token_dtype

documents_strategy = st.lists(st.lists(st.integers(0, 65535), max_size=20), max_size=20)


def write_shard(prefix: Path, documents: list[list[int]], dtype: str = "<u2") -> ShardWriter:
    with ShardWriter(prefix, np.dtype(dtype)) as writer:
        for document in documents:
            writer.add_document(np.array(document, dtype=dtype))
    return writer


def read_documents(reader: ShardReader) -> list[list[int]]:
    return [reader.document(number).tolist() for number in range(reader.num_documents)]


@settings(max_examples=60, deadline=None)
@given(documents=documents_strategy, dtype=st.sampled_from(["<u2", "<i4"]))
def test_what_is_written_is_read(tmp_path_factory, documents, dtype):
    prefix = tmp_path_factory.mktemp("shard") / "s"
    writer = write_shard(prefix, documents, dtype)
    reader = ShardReader(prefix)
    assert read_documents(reader) == documents
    assert reader.tokens.tolist() == [token for document in documents for token in document]
    assert reader.document_lengths.tolist() == [len(document) for document in documents]
    assert reader.document_offsets[-1] == reader.num_tokens == writer.num_tokens
    assert reader.dtype == np.dtype(dtype) and reader.num_documents == len(documents) == writer.num_documents


@settings(max_examples=60, deadline=None)
@given(documents=documents_strategy.filter(any), cuts=st.lists(st.integers(0, 400), max_size=6))
def test_batches_and_single_documents_write_the_same_files(tmp_path_factory, documents, cuts):
    directory = tmp_path_factory.mktemp("shard")
    write_shard(directory / "single", documents)
    borders = [0, *sorted(min(cut, len(documents)) for cut in cuts), len(documents)]
    with ShardWriter(directory / "batch", np.dtype("<u2")) as writer:
        for start, stop in itertools.pairwise(borders):
            group = documents[start:stop]
            flat = np.array([token for document in group for token in document], dtype=np.int64)
            writer.add_documents(flat, np.array([len(document) for document in group], dtype=np.int64))
    for file in (bin_path, idx_path):
        assert file(directory / "batch").read_bytes() == file(directory / "single").read_bytes()


def test_part_of_a_document(tmp_path):
    write_shard(tmp_path / "s", [[1, 2, 3], [4, 5, 6, 7, 8]])
    reader = ShardReader(tmp_path / "s")
    assert reader.document(1, offset=1, length=3).tolist() == [5, 6, 7]
    assert reader.document(1, offset=3, length=99).tolist() == [7, 8]
    assert reader.document(0, offset=9).tolist() == []
    with pytest.raises(IndexError):
        reader.document(2)


def test_megatron_reads_ours(tmp_path):
    from megatron.core.datasets import indexed_dataset

    documents = [[1, 2, 3], [65499], [7] * 1000]
    for dtype in ("<u2", "<i4"):
        write_shard(tmp_path / dtype, documents, dtype)
        dataset = indexed_dataset.IndexedDataset(str(tmp_path / dtype))
        assert [dataset[i].tolist() for i in range(len(dataset))] == documents
        assert dataset.index.dtype == np.dtype(dtype)
        assert dataset.document_indices.tolist() == [0, 1, 2, 3]


def test_we_read_megatrons_with_documents_of_several_sequences(tmp_path):
    import torch
    from megatron.core.datasets import indexed_dataset

    prefix = tmp_path / "their_text_document"
    builder = indexed_dataset.IndexedDatasetBuilder(str(bin_path(prefix)), dtype=np.uint16)
    for document in ([[1, 2], [3]], [[4]], [[5, 6], [7, 8, 9]]):
        for sequence in document:
            builder.add_item(torch.tensor(sequence))
        builder.end_document()
    builder.finalize(str(idx_path(prefix)))
    reader = ShardReader(prefix)
    assert read_documents(reader) == [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
    assert reader.document_lengths.tolist() == [3, 1, 5]


def test_the_id_type_is_the_one_that_megatron_chooses():
    from megatron.core.datasets import indexed_dataset

    for vocab_size in (300, 65499, 65500, 65536, 250_000):
        assert token_dtype(vocab_size) == indexed_dataset.DType.optimal_dtype(vocab_size)


def test_a_multimodal_index_is_read(tmp_path):
    write_shard(tmp_path / "s", [[1, 2], [3]])
    with idx_path(tmp_path / "s").open("ab") as stream:
        stream.write(b"\x00\x01")
    assert read_documents(ShardReader(tmp_path / "s")) == [[1, 2], [3]]


def test_a_failed_writer_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError):
        with ShardWriter(tmp_path / "s", np.dtype("<u2")) as writer:
            writer.add_document(np.array([1, 2], dtype="<u2"))
            raise RuntimeError("in the middle")
    assert list(tmp_path.iterdir()) == []


def test_ids_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match="70000 do not fit uint16"):
        with ShardWriter(tmp_path / "s", np.dtype("<u2")) as writer:
            writer.add_document(np.array([1, 70000]))


def _patch(path: Path, at: int, data: bytes) -> None:
    raw = bytearray(path.read_bytes())
    raw[at : at + len(data)] = data
    path.write_bytes(raw)


def _drop(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:-count])


BROKEN = {
    "truncated bin": (lambda b, i: _drop(b, 3), "s.bin: holds 7 bytes, truncated", "10 bytes, as s.idx says"),
    "too long bin": (lambda b, i: b.write_bytes(bytes(12)), "s.bin: holds 12 bytes, more than", "10 bytes"),
    "missing bin": (lambda b, i: b.unlink(), "s.bin: is missing", ".bin and .idx"),
    "missing idx": (lambda b, i: i.unlink(), "s.idx: is missing", ".bin and .idx"),
    "garbage idx": (lambda b, i: i.write_bytes(b"garbage" * 20), "s.idx: is not a Megatron index", "MMIDIDX"),
    "empty idx": (lambda b, i: i.write_bytes(b""), "s.idx: is not a Megatron index", "MMIDIDX"),
    "truncated idx": (lambda b, i: _drop(i, 9), "s.idx: holds", "2 sequences in 2 documents"),
    "version": (lambda b, i: _patch(i, 9, struct.pack("<Q", 2)), "format version 2", "version 1"),
    "float tokens": (lambda b, i: _patch(i, 17, b"\x07"), "token type code 7", "one of"),
    "huge count": (lambda b, i: _patch(i, 18, struct.pack("<Q", 2**50)), "s.idx: holds", "sequences"),
    "documents do not cover": (lambda b, i: _patch(i, 34 + 24 + 16, struct.pack("<q", 1)), "do not cover", ""),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_shard_is_refused_when_opened(tmp_path, case):
    breakage, problem, expected = BROKEN[case]
    write_shard(tmp_path / "s", [[1, 2, 3], [4, 5]])
    breakage(bin_path(tmp_path / "s"), idx_path(tmp_path / "s"))
    with pytest.raises(DataError) as error:
        ShardReader(tmp_path / "s")
    assert problem in str(error.value) and expected in str(error.value)


def test_sequences_that_do_not_lie_back_to_back_are_refused(tmp_path):
    write_shard(tmp_path / "s", [[1, 2, 3], [4, 5], [6]])
    _patch(idx_path(tmp_path / "s"), 34 + 12 + 8, struct.pack("<q", 4))
    with pytest.raises(DataError, match="back to back"):
        _ = ShardReader(tmp_path / "s").document_offsets
