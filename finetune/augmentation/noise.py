"""Misspellings: of fingers that slip on a keyboard, of scans that are misread."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from random import Random

_ROWS = ("1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm")
"""Keys of QWERTY, each row half a key to the right of the one above."""
_LOOK_ALIKES = (
    *("0 O o", "1 l I |", "2 Z z", "5 S s", "8 B", "6 b", "9 g q", "u v", "c e", "h b", "n r", "f t"),
    *("m rn", "d cl", "w vv", "B 13", "H fi"),
    *("己 已 巳", "未 末", "土 士", "日 曰 目", "人 入 八", "大 太 犬", "天 夭", "干 千 于", "戊 戌 戍", "田 由 甲 申"),
    *("王 玉 主", "刀 力", "儿 几", "贝 见", "折 拆", "免 兔", "乌 鸟", "住 往", "候 侯", "折 析", "延 廷", "晴 睛"),
    *("徒 徙", "薄 簿", "辨 辩", "仑 仓", "哀 衰 衷", "拨 拔", "令 今", "买 卖", "壁 璧", "竞 竟", "治 冶", "问 间"),
)
"""Groups of what scans take for each other."""


def _neighbours() -> dict[str, str]:
    places = {key: (column + row / 2, row) for row, keys in enumerate(_ROWS) for column, key in enumerate(keys)}
    return {
        key: "".join(
            other
            for other, (x, y) in places.items()
            if other != key and other.isalpha() and abs(x - column) <= 1 and abs(y - row) <= 1
        )
        for key, (column, row) in places.items()
        if key.isalpha()
    }


def _alike() -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for group in _LOOK_ALIKES:
        texts = group.split()
        for text in texts:
            found[text] += [other for other in texts if other != text]
    return dict(found)


NEIGHBOURS: Mapping[str, str] = _neighbours()
"""The letters beside each letter on the keyboard."""
ALIKE: Mapping[str, Sequence[str]] = _alike()
"""What each text of one or two characters may be taken for."""


def mistyped(word: str, probability: float, random: Random) -> str:
    """A word with some of its Latin letters replaced by ones beside them on the keyboard, in the same case."""
    found = []
    for letter in word:
        beside = NEIGHBOURS.get(letter.lower(), "")
        if beside and random.random() < probability:
            chosen = random.choice(beside)
            letter = chosen.upper() if letter.isupper() else chosen
        found.append(letter)
    return "".join(found)


def misread(word: str, probability: float, random: Random) -> str:
    """A word with some of its characters, or pairs of them, replaced by what looks like them."""
    found, at = [], 0
    while at < len(word):
        size = 2 if word[at : at + 2] in ALIKE else 1
        piece = word[at : at + size]
        if piece in ALIKE and random.random() < probability:
            found.append(random.choice(ALIKE[piece]))
        else:
            found.append(piece)
        at += size
    return "".join(found)
