"""A tiktoken vocabulary -> a `tokenizers` pipeline that does the same."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from configs.errors import DataError
from data_prep.tokenizer.byte_alphabet import to_byte_alphabet
from data_prep.tokenizer.tiktoken_kind import TiktokenTokenizer

if TYPE_CHECKING:
    import tokenizers


def convert_tiktoken(tokenizer: TiktokenTokenizer) -> tokenizers.Tokenizer:
    """The `tokenizers` pipeline that does what a tiktoken vocabulary does; its special tokens become special tokens."""
    import tokenizers
    from tokenizers import AddedToken, Regex, decoders, pre_tokenizers
    from tokenizers.models import BPE

    ranks = tokenizer.ranks()
    spelled = {data: to_byte_alphabet(data) for data in ranks}
    # tiktoken joins the neighbours whose joint string has the lowest rank; here every way to cut a string in two is a
    # merge with its rank. A word that is in the vocabulary is taken whole by both.
    merges = [
        (spelled[data[:cut]], spelled[data[cut:]])
        for data in sorted(ranks, key=ranks.__getitem__)
        for cut in range(1, len(data))
        if data[:cut] in ranks and data[cut:] in ranks
    ]
    vocab = {spelled[data]: number for data, number in ranks.items()}
    pipeline = tokenizers.Tokenizer(BPE(vocab=vocab, merges=merges, ignore_merges=True))
    # In this library's regular expressions a plus after a counted repetition is another repetition.
    pattern = re.sub(r"(\{\d+(?:,\d*)?\})\+", r"\1", tokenizer.pattern)
    pipeline.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    pipeline.decoder = decoders.ByteLevel()
    special = {number: spelling for spelling, number in tokenizer.special_tokens.items()}
    # Added tokens get the ids after the vocabulary, one after the other: unused ids need a name too.
    named = [special.get(number, f"<|unused_{number}|>") for number in range(len(vocab), tokenizer.vocab_size)]
    pipeline.add_tokens([AddedToken(spelling, special=True, normalized=False) for spelling in named])
    for number, spelling in special.items():
        if pipeline.token_to_id(spelling) != number:
            raise DataError(
                f"has the special token {spelling!r} with the id {number} between its byte strings",
                where=tokenizer.model_path,
                expected="special tokens after all others; or tokenizer=none",
            )
    return pipeline
