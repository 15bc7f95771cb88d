"""Texts on which tokenizers are known to differ, drawn at random: for tests and for the large fuzz of the benchmark."""

import random
from collections.abc import Sequence

_PARTS = (
    " ", "  ", "   ", "\n", "\n\n", "\r\n", "\r", "\t", "\u00a0", "\u3000", "\u2028", "\x85", "\x0b", "\x0c", "\x00",
    "\x7f", "\ufeff", "\u200b", "\u200d", "\u00ad", "\ufffd", "\U0010ffff", "\u2581", "'", "'s", "'S", "'ll", "'LL",
    "'re", "'\u017f", "\u2019s", "don't", "the", "The", "THE", "model", "e\u0301", "\u0301", "é", "ß", "ſ", "İ", "ﬁ",
    "½", "①", "²", "٣", "१", "Ⅷ", "日本語", "한국어", "العربية", "हिन्दी", "ไทย", "😀", "👩\u200d👩\u200d👧", "🇫🇷", "0",
    "12", "123", "1234567", "3.14e-10", "1,000", "_", "__init__", "snake_case", "camelCase", "HTTPServer", "!", "!!",
    "/", "//", "/*", "*/", "...", "->", "#", "##", "[UNK]", "<0x0A>", "<", "|", ">", "<|", "|>", "a", "b", "x" * 40,
    "!" * 40, "9" * 40, " " * 40, "\n" * 20, "ab" * 20,
)  # fmt: skip
_LONGEST = 30


def hostile_text(random_numbers: random.Random, special: Sequence[str] = ()) -> str:
    """One text: parts that libraries differ on, spelled special tokens, and characters from anywhere in Unicode."""
    parts = []
    for _ in range(random_numbers.randrange(1, _LONGEST)):
        kind = random_numbers.random()
        if kind < 0.75:
            parts.append(random_numbers.choice(_PARTS))
        elif kind < 0.85 and special:
            parts.append(random_numbers.choice(special))
        else:
            point = random_numbers.randrange(0x20, random_numbers.choice([0x80, 0x250, 0x3000, 0x20000, 0x110000]))
            parts.append("" if 0xD800 <= point < 0xE000 else chr(point))
    return "".join(parts)
