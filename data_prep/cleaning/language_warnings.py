"""What a recipe or its result says about languages that its stages are not made for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from data_prep.cleaning.config import CleanConfig
from data_prep.cleaning.language_codes import MIXED, two_letters, written_language

_SEEING_WORDS = (
    "gopher_repetition",
    "gopher_quality",
    "c4",
    "fineweb",
    "sentence_dedup",
    "minhash_dedup",
    "decontaminate",
)
_CHARACTERS_PER_WORD = 10
_CHARACTERS_PER_UNIT = {"sentence": 400, "line": 4000}
_UNSPACED_SHARE = 0.05
_SCRIPT_SHARE = 0.05
_WIDE_PUNCTUATION = frozenset({"zh", "ja", "ko"})


def warnings_of_settings(config: CleanConfig) -> list[str]:
    """One sentence for each setting that does not fit the languages that the recipe names."""
    languages = {two_letters(config.word_language)} - {MIXED}
    if "language" in config.stages:
        languages |= set(map(two_letters, config.language.keep))
    return [
        *(_of_words(config, languages) if languages else ()),
        *(line for code in sorted(languages - {"en"}) for line in _of_filters(config, code)),
    ]


def warnings_of_result(config: CleanConfig, report: dict[str, Any]) -> list[str]:
    """One sentence for each way in which what was found does not fit the recipe."""
    kept = set(map(two_letters, config.language.keep))
    counts = {code: count for code, count in report["languages"].items() if not kept or code in kept}
    most = max(counts, key=lambda code: counts[code], default="en")
    lines = []
    if most not in ("en", "unknown") and two_letters(config.word_language) != most:
        found = f"most documents are in {most}"
        lines += [f"{found}, {line}" for line in (*_of_words(config, {most}), *_of_filters(config, most))]
    else:
        lines += _of_scripts(config, report.get("scripts", {}))
    for stage in report["stages"]:
        lines += _of_comparison(config, stage)
    return lines


def _of_scripts(config: CleanConfig, counts: dict[str, int]) -> Iterator[str]:
    """What the scripts of the raw texts tell, where the recipe does not say which languages are kept."""
    if "language" in config.stages and config.language.keep:
        return
    own = written_language(config.word_language).script
    total = sum(counts.values())
    for code, count in counts.items():
        if code and written_language(code).script != own and count >= _SCRIPT_SHARE * total:
            found = f"{count:,} of {total:,} documents are in the script of {code}"
            yield from (f"{found}, {line}" for line in (*_of_words(config, {code}), *_of_filters(config, code)))


def _of_comparison(config: CleanConfig, stage: dict[str, Any]) -> Iterator[str]:
    words, characters, unspaced = (stage[key] for key in ("words", "characters", "unspaced_characters"))
    count, kind, least = words, "words", _CHARACTERS_PER_WORD
    fault = f"copies pass it: word_language = {config.word_language} is not the texts'"
    if stage["name"] == "sentence_dedup":
        unit = config.sentence_dedup.unit
        count, kind, least = stage["units"], f"{unit}s", _CHARACTERS_PER_UNIT[unit]
        other = "unit=sentence" if unit == "line" else "unit=line, or another word_language,"
        few = f"what is the same within one stays: sentence_dedup.{other} may find more"
        told = ", and sentences told," if unit == "sentence" else ""
        fault = f"words are counted (min_doc_words){told} as in word_language = {config.word_language}"
    else:
        few = fault
    seen = f"{stage['name']} saw {count:,} {kind} in {characters:,} characters"
    if count * least < characters:
        yield f"{seen}, less than one in {least}; {few}"
    elif unspaced > _UNSPACED_SHARE * characters and _is_spaced(config.word_language):
        yield f"{seen}, {unspaced / characters:.0%} of a script without spaces between words; {fault}"


def _of_words(config: CleanConfig, languages: set[str]) -> Iterator[str]:
    own = two_letters(config.word_language)
    seeing = [stage for stage in config.stages if stage in _SEEING_WORDS]
    others = sorted(code for code in languages - {own, "en"} if own == "en" or not _is_spaced(code))
    if seeing and others:
        yield (
            f"word_language = {config.word_language} splits the words of {', '.join(seeing)}; "
            f"for {others[0]} say word_language={others[0]}"
        )


def _of_filters(config: CleanConfig, code: str) -> Iterator[str]:
    is_spaced, stages = _is_spaced(code), set(config.stages)
    quality, c4, unicode = config.gopher_quality, config.c4, config.unicode
    if "gopher_quality" in stages and quality.min_stop_words and quality.stop_words is None:
        yield f"gopher_quality.stop_words are English, and texts in {code} have none of them"
    if "gopher_quality" in stages and not is_spaced and (quality.min_avg_word_length or 0) >= 2:
        yield f"gopher_quality.min_avg_word_length = {quality.min_avg_word_length:g} is more than words of {code} have"
    if "c4" in stages and not is_spaced:
        if c4.filter_no_terminal_punct:
            yield f"c4.filter_no_terminal_punct drops every line in {code}: it knows . ? ! and straight quotes only"
        if c4.min_words_per_line > 1 or c4.max_word_length > 0:
            yield f"c4.min_words_per_line and c4.max_word_length count words between spaces, which {code} lacks"
    if "fineweb" in stages and not is_spaced and config.fineweb.short_line_length >= 30:
        yield f"fineweb.short_line_length = {config.fineweb.short_line_length} is a whole sentence in {code}"
    if "unicode" in stages and code in _WIDE_PUNCTUATION and unicode.normalization in ("NFKC", "NFKD"):
        yield f"unicode.normalization = {unicode.normalization} makes ，！？ of {code} ASCII; NFC keeps them"


def _is_spaced(code: str) -> bool:
    return written_language(code).is_spaced
