"""What is known of the token ids beside their number: roles, bytes, where words begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from configs.errors import ConfigError, DataError

if TYPE_CHECKING:
    from data_prep.tokenizer import Tokenizer


@dataclass(frozen=True)
class TokenFacts:
    """The vocabulary of a run as objectives see it.

    Attributes:
        vocab_size: ids that occur.
        roles: id of each special role that the tokenizer has, such as `mask`, `classification`, `separator`, `pad`.
        tokenizer: what more can be asked of; None where the corpora are bare.
        sentinels: ids that stand for dropped spans, `<extra_id_0>` first.
    """

    vocab_size: int
    roles: Mapping[str, int] = field(default_factory=dict)
    tokenizer: Tokenizer | None = None
    sentinels: Sequence[int] = ()

    def role(self, name: str) -> int:
        """The id with a role.

        Raises:
            ConfigError: the tokenizer has none.
        """
        if name not in self.roles:
            known = ", ".join(sorted(self.roles)) or "none"
            raise ConfigError(
                f"the model or its objective needs a token with the role {name!r}, and the tokenizer has none",
                where="data.tokenizer",
                expected=f"a tokenizer with that role (this one has {known}), such as train-tokenizer makes with"
                f" special_tokens.{name}=SPELLING",
            )
        return self.roles[name]

    def sentinel_ids(self, count: int) -> np.ndarray:
        """The first `count` sentinels in order, int64.

        Raises:
            ConfigError: the tokenizer has fewer.
        """
        if len(self.sentinels) < count:
            raise ConfigError(
                f"the objective needs {count} sentinels, <extra_id_0> to <extra_id_{count - 1}>, and the tokenizer has"
                f" {len(self.sentinels) or 'none'}",
                where="data.tokenizer",
                expected=f"a tokenizer with as many (train-tokenizer special_tokens.sentinels={max(count, 100)}, or"
                " import-tokenizer 'sentinels=<extra_id_*>' for one that spells them), or fewer spans: a shorter"
                " model.seq_length, or longer spans",
            )
        return np.array(self.sentinels[:count], dtype=np.int64)

    @cached_property
    def special_ids(self) -> np.ndarray:
        """All ids that write no text, int64, sorted: with a role, sentinels, other special ones, unused ones."""
        special = {*self.roles.values(), *self.sentinels}
        if self.tokenizer is not None:
            known = self.tokenizer.vocab_size
            special |= {token for token in range(known) if self.tokenizer.is_special(token)}
            special |= {*self.tokenizer.sentinels, *range(known, self.vocab_size)}
        return np.array(sorted(special), dtype=np.int64)

    @cached_property
    def token_bytes(self) -> np.ndarray | None:
        """UTF-8 bytes of each id, int32 [vocab_size]; None without a tokenizer."""
        if self.tokenizer is None:
            return None
        sizes = self.tokenizer.token_bytes()
        return np.pad(sizes, (0, self.vocab_size - len(sizes)))

    @cached_property
    def blanks(self) -> np.ndarray:
        """Which ids write nothing but white space, bool [vocab_size]; none without a tokenizer."""
        blank = np.zeros(self.vocab_size, dtype=np.bool_)
        if self.tokenizer is None:
            return blank
        is_byte = self.tokenizer.byte_tokens()
        for token in range(self.tokenizer.vocab_size):
            text = self.tokenizer.decode([token]) if is_byte[token] else self.tokenizer.piece(token)
            blank[token] = text.isspace() or (bool(text) and not text.strip(" \u2581"))
        return blank

    @cached_property
    def word_starts(self) -> np.ndarray | None:
        """Which ids begin a word, bool [vocab_size]; None without a tokenizer.

        A token at the start of a sample, or after a special one, begins a word whatever its id: see
        `Tokenizer.word_starts`. Ids beyond the tokenizer's stand alone.

        Raises:
            DataError: if the vocabulary does not mark where words begin.
        """
        if self.tokenizer is None:
            return None
        starts = self.tokenizer.word_starts()
        return np.pad(starts, (0, self.vocab_size - len(starts)), constant_values=True)

    def require_word_starts(self) -> np.ndarray:
        """Which ids begin a word, for an objective that chooses words; see `word_starts`.

        Raises:
            ConfigError: there is no tokenizer, or its vocabulary does not mark where words begin.
        """
        try:
            starts = self.word_starts
        except DataError as error:
            raise _no_words(error.problem) from None
        if starts is None:
            raise _no_words("there is no tokenizer to say it")
        return starts


def _no_words(problem: str) -> ConfigError:
    return ConfigError(
        f"is whole_word, and where words begin is not known: {problem}",
        where="objective.selection",
        expected="token, or a tokenizer whose pieces mark where words begin",
    )
