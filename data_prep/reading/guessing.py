"""What encoding bytes look to be in, for hints and for pages that declare none: the right one, or none at all.

A library weighs the letters. In short texts it is wrong as often as right, so that what it says is taken only where the
text reads as one in that encoding; two kinds of text are known here without it: Chinese, Japanese and Korean by their
most common characters, Western European by the letters of its languages.
"""

from __future__ import annotations

import re

from data_prep.reading.common_characters import COMMON, WESTERN_LETTERS
from data_prep.reading.encodings import UTF_8, byte_order_mark, decodes, encoding_shown, in_practice, is_of_files

_LINE_BYTES = 4096
_LOOKED_AT_BYTES = 1 << 16
_NOT_ASCII, _RUNS = re.compile(rb"[\x80-\xff]"), re.compile(rb"[\x80-\xff]+")
_LETTERS, _HIRAGANA = re.compile(r"[^\W\d_a-zA-Z]"), re.compile("[ぁ-ん]")
_CJK = re.compile("[ぁ-んァ-ヶー一-鿿]")
# Fewer bytes tell nothing; fewer do not tell one encoding of a script that is not Latin from another; fewer are no
# reason to believe in an encoding that few files are in, or in one of two that both read as text.
_LEAST_LETTERS, _LEAST_OF_A_SCRIPT, _MANY_LETTERS = 4, 8, 24
_CJK_LEAST, _CJK_SHARE, _CJK_SOME = 4, 0.4, 0.15
_OF_DOS = re.compile(r"cp(?:4\d\d|7\d\d|8[0-6]\d|037|273|500|10\d\d|11\d\d)|hp")
_OF_MAC = "mac"  # of the library's guesses the least often right
_CYRILLIC = re.compile("[а-яёА-ЯЁ]")
_COMMON_CYRILLIC, _CYRILLIC_SHARE = frozenset("оеаинтсрвлОЕАИНТСРВЛ"), 0.45
# Letters that end words and stand in no word; Russian in capitals in KOI8-R looks like Hebrew but for them.
_FINAL_WITHIN = re.compile("[ךםןףץ](?=[א-ת])|ς(?=[α-ωά-ώ])")
_ACCENTS_ALONE = re.compile("[\u02b0-\u02ff]")
# In the Latin script letters that are not ASCII are seldom side by side.
_ALONE_SHARE, _SIDE_BY_SIDE = 0.75, 2
_READABLE_SHARE, _WESTERN_SHARE = 0.9, 0.95
# Other encodings of the Latin script, in which a text may read as well; and those of DOS in which Western ones are.
_LATIN, _WESTERN_OF_DOS = ("cp1250", "iso8859-2", "cp1254", "iso8859-9", "cp1257", "iso8859-13"), ("cp850", "mac-roman")
_CONTROL, _CONTROL_SHARE = re.compile(r"[\x00-\x08\x0e-\x1f]"), 0.01
_CONTROL_BYTES = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_WORDS = re.compile(r"[^\s!-&(-,./:-@\[-`{-~]+")
_PRACTICE = {"iso8859-16": "iso8859-2"}  # files in Romanian are in the older one, with other commas below letters
_AROUND_WORDS = "'-«»‹›“”‘’„…–—¿¡·•€£§©®™°ºª²³½ "
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
# As in 15€, £5, 20°C, 8–16, 1ª, §5, 5µm; and as Catalan doubles a letter.
_OF_NUMBERS = re.compile(r"[€£¥§°ºª²³½¼¾±µ×–−·]*\d+(?:[.,:]\d+)*(?:[€£¥§°ºª²³½¼¾±µ×–−·][a-zA-Z%]{0,3}\d*)*")
_DOUBLED = re.compile("(?<=[lL])·(?=[lL])")


def said_guess(sample: bytes) -> str | None:
    """What bytes that are not UTF-8 look like and the setting that reads them, for a message; None: unknown."""
    encoding = guess_encoding(sample)
    if encoding is not None:
        return f"looks like {encoding_shown(encoding)}: encoding={encoding} reads it"
    # A single byte is damage as likely as a letter.
    if 1 < len(_NOT_ASCII.findall(_in_no_utf8(sample))) < _MANY_LETTERS:
        return (
            "is in an encoding that so few letters do not tell: encoding=cp1252, encoding=gb18030 or another names it"
        )
    return None


def guess_encoding(sample: bytes) -> str | None:
    """The encoding that a sample of a file looks to be in, by its canonical name; None: UTF-8, or unknown.

    Where more lines with other letters than ASCII's are UTF-8 than are not, the others are damage and no encoding.
    """
    marked = byte_order_mark(sample)
    if marked is not None or (sample.isascii() and b"\0" not in sample):
        return None if marked in (None, UTF_8) else marked
    if b"\0" in sample and (wide := _wide(sample)) is not None:
        return wide
    data = _in_no_utf8(sample)
    return _guess(data) if len(_NOT_ASCII.findall(data)) >= _LEAST_LETTERS else None


def is_western_at_sight(page: bytes) -> bool:
    """Whether a page that says nothing and has too few letters for a guess is Windows-1252, as browsers take it.

    So where what is not ASCII are signs and letters of one Western language, in words as people write them.
    """
    return len(_NOT_ASCII.findall(page)) < _LEAST_LETTERS and decodes(page, "cp1252") and _is_western(page)


def _wide(sample: bytes) -> str | None:
    """Which UTF-16 bytes are in that have no mark; None: in neither."""
    for at, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        # Of each line break and of all ASCII one byte is zero, always the same of the two; of other letters, such as
        # the Chinese one, the other may be.
        zeros, others = sample[at::2].count(0), sample[1 - at :: 2].count(0)
        whole = sample[: len(sample) & ~1]
        if zeros <= 2 * others or not decodes(whole, encoding, final=False):
            continue
        text = whole.decode(encoding, "ignore")
        surely = zeros > 1 and zeros > 8 * others and len(_CONTROL.findall(text)) <= _CONTROL_SHARE * len(text)
        # One zero byte among the letters of ASCII tells nothing.
        several = zeros > 2 or not sample.isascii() or len(_CONTROL_BYTES.findall(sample)) > 1
        if surely or (several and "".join(text.split()).isprintable()):
            return encoding
    return None


def _in_no_utf8(sample: bytes) -> bytes:
    """The lines of a sample that are not UTF-8; none where they are damage, or no text."""
    lines = [line for line in sample.split(b"\n") if not line.isascii()]
    other = [line for line in lines if not decodes(line, UTF_8, final=len(line) < _LINE_BYTES)]
    data = b"\n".join(other)
    return b"" if (len(other) * 2 <= len(lines) and len(lines) > 1) or b"\0" in data else data


def _guess(data: bytes) -> str | None:
    looked_at = data[:_LOOKED_AT_BYTES]
    bytes_not_ascii = len(_NOT_ASCII.findall(looked_at))
    eastern = _eastern(looked_at)
    if eastern is not None and decodes(data, eastern, final=False):
        return eastern
    import cchardet

    said = cchardet.detect(data)["encoding"]
    encoding = in_practice(said) if said and is_of_files(said) else UTF_8
    encoding = _PRACTICE.get(encoding, encoding)
    if not decodes(data, encoding, final=False):
        encoding = UTF_8
    western = decodes(data, "cp1252") and _is_western(looked_at)
    if western:
        # What few files are in is not believed against it; nor do few letters tell two that both read as text apart.
        other = encoding in _LATIN and not _same(looked_at, encoding)
        if other and _readable_share(looked_at.decode(encoding, "replace")) >= _READABLE_SHARE:
            return encoding if bytes_not_ascii >= _MANY_LETTERS else None
        return "cp1252"
    if encoding != UTF_8 and _is_believable(looked_at, encoding, bytes_not_ascii):
        return encoding
    # The library may name one that cannot be; of those that can, the strictest.
    if bytes_not_ascii < _MANY_LETTERS:
        return None
    shares = _common_shares(looked_at)
    possible = [name for name in ("cp932", "euc_jp", "big5hkscs", "gb18030") if _may_be(data, name)]
    return next((name for name in possible if shares[name] == max(shares.values()) >= _CJK_SOME), None)


def _same(data: bytes, encoding: str) -> bool:
    return data.decode(encoding, "replace") == data.decode("cp1252", "replace")


def _eastern(data: bytes) -> str | None:
    """The encoding of Chinese, Japanese or Korean in which the most letters are common ones; None: in none many are."""
    shares = _common_shares(data)
    best, second = sorted(shares, key=lambda name: shares[name], reverse=True)[:2]
    return best if shares[best] >= _CJK_SHARE and shares[best] > 1.5 * shares[second] else None


def _common_shares(data: bytes) -> dict[str, float]:
    return {encoding: _common_share(data, encoding, common) for encoding, common in COMMON.items()}


def _common_share(data: bytes, encoding: str, common: frozenset[str]) -> float:
    if not decodes(data, encoding, final=False):
        return 0.0
    letters = _LETTERS.findall(data.decode(encoding, "ignore"))
    return sum(letter in common for letter in letters) / len(letters) if len(letters) >= _CJK_LEAST else 0.0


def _is_western(data: bytes) -> bool:
    """Whether bytes read as a Western European language in Windows-1252."""
    runs = _RUNS.findall(data)
    if sum(len(run) <= _SIDE_BY_SIDE for run in runs) < _ALONE_SHARE * len(runs):
        return False
    return _reads_western(data.decode("cp1252", "replace"))


def _reads_western(text: str) -> bool:
    letters = _LETTERS.findall(text.lower())
    most = max(sum(letter in known for letter in letters) for known in WESTERN_LETTERS)
    return _readable_share(text) >= _READABLE_SHARE and most >= _WESTERN_SHARE * len(letters)


def _is_believable(data: bytes, encoding: str, bytes_not_ascii: int) -> bool:
    """Whether what the library says can be, by how many letters there are and how they read."""
    if encoding in COMMON:
        shares = _common_shares(data)
        return bytes_not_ascii >= _MANY_LETTERS and shares[encoding] == max(shares.values()) >= _CJK_SOME
    text = data.decode(encoding, "ignore")
    if encoding.startswith(_OF_MAC) or _readable_share(text) < _READABLE_SHARE:
        return False
    if _OF_DOS.match(encoding) and any(_reads_western(data.decode(name, "replace")) for name in _WESTERN_OF_DOS):
        return encoding == "cp850"
    runs = _RUNS.findall(data)
    if sum(len(run) == 1 for run in runs) >= _ALONE_SHARE * len(runs):
        return bytes_not_ascii >= _MANY_LETTERS or not _OF_DOS.match(encoding)
    cyrillic = _CYRILLIC.findall(text)
    if len(cyrillic) >= _LEAST_OF_A_SCRIPT:
        return sum(letter in _COMMON_CYRILLIC for letter in cyrillic) >= _CYRILLIC_SHARE * len(cyrillic)
    return bytes_not_ascii >= (_MANY_LETTERS if _OF_DOS.match(encoding) else 2 * _LEAST_OF_A_SCRIPT)


def _readable_share(text: str) -> float:
    """Of the characters that are not ASCII the share of those in words, or around words, as people write them."""
    good = bad = 0
    for token in _WORDS.findall(text):
        count = sum(not character.isascii() for character in token)
        word = _DOUBLED.sub("", token.strip(_AROUND_WORDS))
        if not count:
            continue
        if (
            not word
            or _OF_NUMBERS.fullmatch(word)
            or (_is_word(word) and not any(character in "ºª²³½" for character in word))
        ):
            good += count
        else:
            bad += count
    # Spaces that no line breaks at are around words, too.
    good += text.count("\u00a0")
    return good / (good + bad) if good else 0.0


def _is_word(word: str) -> bool:
    plain = re.sub("[\u0300-\u036f\u0591-\u05c7\u064b-\u0652\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]", "", word)
    parts = re.split("['’-]", plain)
    if _WORD.fullmatch(plain) is None or _FINAL_WITHIN.search(plain) or _ACCENTS_ALONE.search(plain):
        return False
    return all(part[1:] == part[1:].lower() or part == part.upper() for part in parts)


def _may_be(data: bytes, encoding: str) -> bool:
    if not decodes(data, encoding, final=False):
        return False
    text = data.decode(encoding, "ignore")
    letters = len(_LETTERS.findall(text))
    japanese = encoding in ("cp932", "euc_jp")
    return (
        letters > 0
        and len(_CJK.findall(text)) > 0.9 * letters
        and (not japanese or len(_HIRAGANA.findall(text)) > 0.1 * letters)
    )
