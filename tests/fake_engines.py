"""Libraries of an id for each character, in the place of gigatoken and of a vocabulary's own."""

from __future__ import annotations

import unicodedata

import numpy as np

from data_prep.tokenizer.engines import Engine


class Fake(Engine):
    """A library that gives each character's code point; another id for one character or text."""

    name = "fake"

    def __init__(self, wrong: str = ""):
        self.wrong = wrong
        self.asked: list[str] = []

    def lists(self, texts):
        self.asked += texts
        holds = [bool(self.wrong) and self.wrong in text for text in texts]
        return [[0] * len(text) if wrong else list(map(ord, text)) for text, wrong in zip(texts, holds)]


class Composing(Fake):
    """Composes characters first."""

    def lists(self, texts):
        return super().lists([unicodedata.normalize("NFC", text) for text in texts])


class FakeGigatoken:
    """What `ByteLevelEngine` needs of gigatoken, around a `Fake`."""

    def __init__(self, wrong: str = ""):
        self.fake = Fake(wrong)

    def encode_batch_list(self, texts, parallel):
        return self.fake.lists(texts)

    def encode_batch(self, texts, parallel):
        import awkward

        lists = self.fake.lists(texts)
        lengths = np.array([len(ids) for ids in lists])
        return awkward.unflatten(np.array([token for ids in lists for token in ids], np.uint32), lengths)
