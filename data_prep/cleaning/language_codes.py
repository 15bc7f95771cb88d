"""Codes of languages: ISO 639-1 and 639-3, and datatrove's with a script, name one language in every setting."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from datatrove.utils._import_utils import ASSETS_PATH

from configs.errors import ConfigError, nearest
from configs.extras import install_command

MIXED = "xx"
# Scripts that put no space between words: a splitter that looks for spaces takes a clause for a word.
UNSPACED_SCRIPTS = frozenset({"Hani", "Hans", "Hant", "Jpan", "Thai", "Laoo", "Khmr", "Mymr", "Tibt"})
# Scripts whose marks are accents; elsewhere they are vowels, tones or parts of syllables that a segmenter needs.
_ACCENTED_SCRIPTS = frozenset({"", "Latn", "Grek", "Cyrl", "Hebr", "Arab"})
# Splitter -> module and package; the packages of an extra of pyproject.toml are installed by its name.
_PACKAGES = {
    "SpaCyTokenizer zh": (("jieba", "jieba"),),
    "SpaCyTokenizer ja": (("sudachipy", "sudachipy"), ("sudachidict_core", "sudachidict-core")),
    "SpaCyTokenizer vi": (("pyvi", "pyvi"),),
    "ThaiTokenizer": (("pythainlp", "pythainlp"), ("pycrfsuite", "python-crfsuite")),
    "KiwiTokenizer": (("kiwipiepy", "kiwipiepy"),),
    "IndicNLPTokenizer": (("indicnlp", "indic-nlp-library"),),
    "StanzaTokenizer": (("stanza", "stanza"),),
    "KhmerTokenizer": (("khmernltk", "khmer-nltk"),),
    "LaoTokenizer": (("laonlp", "laonlp"),),
    "TibetanTokenizer": (("botok", "botok"),),
    "BurmeseTokenizer": (("pyidaungsu", "pyidaungsu-numpy2"),),
}
_EXTRAS = {"SpaCyTokenizer zh": "chinese", "SpaCyTokenizer ja": "japanese", "ThaiTokenizer": "thai"}


@dataclass(frozen=True)
class WrittenLanguage:
    """A language in a script, and the splitter that datatrove assigns to it.

    Attributes:
        key: datatrove's name, ISO 639-3 and script, such as `cmn_Hani`; `xx` for mixed languages.
        iso_639_1: the two letters that mean it, empty where there are none.
        script: ISO 15924 code.
        splitter: class and, for spaCy, pipeline; empty where there is none.
    """

    key: str
    iso_639_1: str
    script: str
    splitter: str

    @property
    def is_spaced(self) -> bool:
        """Whether white space stands between words."""
        return self.script not in UNSPACED_SCRIPTS

    @property
    def has_accents(self) -> bool:
        """Whether its combining marks can be left out and words stay the same."""
        return self.script in _ACCENTED_SCRIPTS


_MIXED = WrittenLanguage(MIXED, MIXED, "", "SpaCyTokenizer xx")


@lru_cache
def _table() -> list[tuple[bool, bool, str, WrittenLanguage]]:
    """For each line of datatrove's table: what its two letters mean, in its usual script, ISO 639-3, language."""
    found = []
    with (Path(ASSETS_PATH) / "tokenizer_assignment.csv").open(encoding="utf-8") as stream:
        # datatrove takes the FALSE of these columns for true, so that the last script of a code wins.
        for row in csv.DictReader(stream):
            is_meant, is_usual = row["default_code_1"] == "TRUE", row["default_script"] == "TRUE"
            name = f"{row['type']} {row['tok_code']}" if row["type"] == "SpaCyTokenizer" else row["type"]
            own = row["code_1"] if is_meant else ""
            language = WrittenLanguage(f"{row['code_3']}_{row['script']}", own, row["script"], name)
            found.append((is_meant, is_usual, row["code_1"], language))
    return found


@lru_cache
def written_language(code: str, where: str = "word_language") -> WrittenLanguage:
    """The language of a code: zh, cmn and zho are one.

    Raises:
        ConfigError: for an unknown code.
    """
    if code.lower() == MIXED:
        return _MIXED
    wanted = _MACROLANGUAGES.get(code.lower(), code.lower())
    fitting = [
        (not language.splitter, not is_meant and len(wanted) == 2, not is_usual, number)
        for number, (is_meant, is_usual, iso_639_1, language) in enumerate(_table())
        if wanted in _names(iso_639_1, language)
    ]
    if not fitting:
        known = {
            name
            for _, _, iso_639_1, language in _table()
            for name in (iso_639_1, language.key.rpartition("_")[0])
            if name
        }
        subtag = wanted.partition("-")[0]
        raise ConfigError(
            f"there is no word splitter for {code!r}",
            where=where,
            expected="an ISO 639 code such as en, de or zh, or xx for mixed languages",
            nearest=subtag if subtag in known else nearest(subtag, known, cutoff=0.7),
        )
    return _table()[min(fitting)[-1]][-1]


def _names(iso_639_1: str, language: WrittenLanguage) -> tuple[str, ...]:
    with_script = f"{iso_639_1}_{language.script}".lower()
    return iso_639_1, language.key.rpartition("_")[0], language.key.lower(), with_script


def check_splitter(code: str, where: str = "word_language") -> WrittenLanguage:
    """The language of a code whose words can be told here.

    Raises:
        ConfigError: for an unknown code, one without a splitter that finds its words, or a package that is not there.
    """
    language = written_language(code, where)
    if not language.splitter or (not language.is_spaced and language.splitter not in _PACKAGES):
        raise ConfigError(
            f"there is no word splitter for {code!r} ({language.key})",
            where=where,
            expected="a language whose words can be told, or xx, which takes what stands between spaces for words",
        )
    needed = _PACKAGES.get(language.splitter, ())
    missing = [package for module, package in needed if find_spec(module) is None]
    if missing:
        extra = _EXTRAS.get(language.splitter)
        raise ConfigError(
            f"words of {code!r} are told with {' and '.join(missing)}, which is not installed",
            where=where,
            expected=install_command(extra) if extra else f"pip install {' '.join(missing)}",
        )
    return language


def two_letters(code: str) -> str:
    """The ISO 639-1 code of a language that has one, in any script; else the code as it is."""
    wanted = code.lower()
    if "_" in wanted and any(wanted in _names(iso_639_1, language) for _, _, iso_639_1, language in _table()):
        wanted = wanted.partition("_")[0]
    found = (language.iso_639_1 for _, _, own, language in _table() if own and language.key[:4] == f"{wanted}_")
    # A macrolanguage, such as zho, has no line of its own that its two letters mean.
    return _MACROLANGUAGES.get(wanted) or next(filter(None, found), wanted)


# ISO 639-3 codes whose two letters datatrove gives to their standard variety, or to none.
_MACROLANGUAGES = {
    "zho": "zh", "ara": "ar", "est": "et", "fas": "fa", "lav": "lv", "msa": "ms", "mon": "mn", "sqi": "sq",
    "swa": "sw", "aze": "az", "nor": "no", "uzb": "uz", "nep": "ne", "ori": "or", "kur": "ku", "mlg": "mg", "tgl": "tl",
}  # fmt: skip
