"""The sample that a vocabulary is learned from."""

from collections import Counter

import pytest
from data_prep_helpers import write_jsonl

from data_prep.config import SourceConfig, TokenizerConfig
from data_prep.reading import text_sample
from data_prep.reading.text_sample import sample_documents
from data_prep.tokenizer.training import sample_texts

TEXTS = [f"{number:03d} " + "x" * (1 + number % 7 * 20) for number in range(200)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("sample")
    return [str(write_jsonl(root / f"{n}.jsonl", TEXTS[n * 50 : n * 50 + 50])) for n in range(4)]


def drawn(files, sample_bytes, **settings):
    arguments = {name: settings.pop(name) for name in ("seed", "sample_share", "fields") if name in settings}
    return sample_documents(SourceConfig(input=files, **settings), sample_bytes, **arguments)


def test_all_of_a_small_input_is_drawn_in_a_random_order(files):
    texts = [document.text for document in drawn(files, 10**6)]
    assert sorted(texts) == TEXTS and texts != TEXTS
    assert texts != [document.text for document in drawn(files, 10**6, seed=1)]


def test_a_smaller_sample_is_the_beginning_of_a_larger_one(files):
    order = [document.text for document in drawn(files, 10**6)]
    for size in (1, 500, 5000):
        sample = [document.text for document in drawn(files, size)]
        assert sample == order[: len(sample)]
        assert sum(map(len, sample[:-1])) < size <= sum(map(len, sample))


def test_the_order_of_reading_does_not_matter(files, monkeypatch):
    expected = drawn(files, 3000)
    read = text_sample._read_numbered
    monkeypatch.setattr(text_sample, "_read_numbered", lambda *a: reversed(list(read(*a))))
    assert drawn(files, 3000) == expected


@pytest.mark.slow
def test_every_document_is_drawn_equally_often(files):
    # One byte of text is one document; a long one must not come more often than a short one.
    seen = Counter(drawn(files, 1, seed=seed)[0].text for seed in range(2000))
    # The number of times that one is drawn has mean 10 and deviation 3.2.
    assert len(seen) == 200 and max(seen.values()) < 27
    by_length = Counter()
    for text, count in seen.items():
        by_length[len(text)] += count
    shares = {length: count / sum(len(text) == length for text in TEXTS) for length, count in by_length.items()}
    assert all(7.5 < share < 12.5 for share in shares.values()), shares


def test_a_share_of_the_units_is_read(files, monkeypatch):
    read = []
    original = text_sample.read_batches
    monkeypatch.setattr(text_sample, "read_batches", lambda unit, *a: read.append(unit) or original(unit, *a))
    whole = drawn(files, 10**6, work_unit_bytes=512)
    units = len(read)
    read.clear()
    half = drawn(files, 10**6, work_unit_bytes=512, sample_share=0.5)
    assert len(read) == -(-units // 2)
    assert half == [document for document in whole if document in half] and 60 < len(half) < 140
    read.clear()
    assert drawn(files, 10**6, work_unit_bytes=512, sample_share=1e-9) and len(read) == 1


def test_fields_are_kept_where_they_are(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a", "language": "en", "other": 1}\n{"text": "bé"}\n{"text": ""}\n')
    sample = drawn([str(path)], 10, fields=["language"])
    assert sorted((document.text, document.size_bytes, dict(document.fields)) for document in sample) == [
        ("a", 1, {"language": "en"}),
        ("bé", 3, {}),
    ]


def test_training_gets_exactly_as_many_bytes_as_asked_for(tmp_path):
    path = write_jsonl(tmp_path / "long.jsonl", ["é" * 5000, "é" * 5000])
    config = TokenizerConfig(input=[str(path)], output=tmp_path / "t", sample_bytes=12_001)
    assert [len(text) for text in sample_texts(config)] == [5000, 1000]
