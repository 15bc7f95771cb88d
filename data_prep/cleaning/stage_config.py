"""The settings of each stage; defaults of the published filters are the published ones."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from configs.paths import InputPath
from configs.section import Section
from data_prep.config import InputPattern
from data_prep.reading.encodings import canonical_encoding


class ExtractionSettings(Section):
    """Text out of web pages, by trafilatura."""

    favour_precision: bool = True
    """Prefer less text, surely of the page's body."""
    deduplicate: bool = False
    """Leave out passages that occurred in earlier pages of the same task."""
    timeout_s: float = Field(default=30.0, gt=0)
    """Seconds after which a page is given up."""


class UnicodeSettings(Section):
    """Repair of wrongly decoded text, by ftfy."""

    normalization: Literal["NFC", "NFD", "NFKC", "NFKD"] | None = None
    """Unicode normal form of the result; null: as it is. NFKC and NFKD make ，！？ of Chinese and Japanese ASCII."""
    uncurl_quotes: bool = False
    """Make typographic quotes straight, those of Chinese too."""
    fix_line_breaks: bool = False
    """Make all line breaks line feeds."""


class LanguageSettings(Section):
    """Language identification, by lingua; adds `language` and `language_score` to the metadata."""

    keep: list[str] = ["en"]
    """Codes of the languages that are kept, as in word_language (zh, zho, cmn and cmn_Hani are one); empty: all, they
    are only told."""
    candidates: list[str] | None = None
    """Languages that are told apart, kept ones included; null: all 75. Fewer are faster and need less memory."""
    min_confidence: float = Field(default=0.65, ge=0, le=1)
    """Confidence below which a document is dropped."""
    max_chars: int = Field(default=1000, ge=20)
    """Characters of a document, from its beginning, that are looked at."""
    accuracy: Literal["high", "low"] = "low"
    """Models of n-grams up to 5 or of 3 only; low is faster, needs less memory, and serves for 120 characters up."""


class GopherRepetitionSettings(Section):
    """Gopher's filter of repetitive documents; shares are of lines, paragraphs or characters."""

    dup_line_frac: float | None = 0.3
    """Most duplicate lines."""
    dup_para_frac: float | None = 0.3
    """Most duplicate paragraphs."""
    dup_line_char_frac: float | None = 0.2
    """Most characters in duplicate lines."""
    dup_para_char_frac: float | None = 0.2
    """Most characters in duplicate paragraphs."""
    top_n_grams: list[tuple[int, float]] = [(2, 0.2), (3, 0.18), (4, 0.16)]
    """Most characters in the most frequent n-gram, for each n."""
    dup_n_grams: list[tuple[int, float]] = [(5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10)]
    """Most characters in duplicate n-grams, for each n."""


class GopherQualitySettings(Section):
    """Gopher's filter of documents that are not prose; null: no limit. Defaults are for English."""

    min_doc_words: int | None = 50
    """Fewest words."""
    max_doc_words: int | None = 100_000
    """Most words."""
    min_avg_word_length: float | None = 3
    """Shortest mean word, in characters; Chinese has 1.5 to 2."""
    max_avg_word_length: float | None = 10
    """Longest mean word, in characters."""
    max_symbol_word_ratio: float | None = 0.1
    """Most hash signs, or ellipses, per word."""
    max_bullet_lines_ratio: float | None = 0.9
    """Most lines that begin with a bullet."""
    max_ellipsis_lines_ratio: float | None = 0.3
    """Most lines that end with an ellipsis."""
    max_non_alpha_words_ratio: float | None = 0.8
    """Least words with a letter (so named in the published code)."""
    min_stop_words: int | None = 2
    """Fewest different stop words."""
    stop_words: list[str] | None = None
    """The stop words; null: eight English ones, which no text of another language has."""


class C4Settings(Section):
    """C4's filter; it drops lines, too. Made for English: words stand between spaces, phrases are English."""

    remove_citations: bool = True
    """Take out `[1]` and `[edit]`."""
    filter_no_terminal_punct: bool = True
    """Drop lines that do not end with . ? ! or a straight quote; in Chinese and Japanese that is every line."""
    min_num_sentences: int = 5
    """Fewest sentences that are left; -1: no limit."""
    min_words_per_line: int = 3
    """Drop lines of fewer words between spaces, as nearly all Chinese lines are; -1: none."""
    max_word_length: int = 1000
    """Drop lines with a longer word between spaces, as a long Chinese paragraph is; -1: none."""
    filter_lorem_ipsum: bool = True
    """Drop documents with lorem ipsum."""
    filter_javascript: bool = True
    """Drop lines that name javascript."""
    filter_curly_bracket: bool = True
    """Drop documents with a curly bracket."""
    filter_policy: bool = True
    """Drop lines about cookies and terms of use."""


class FineWebSettings(Section):
    """FineWeb's filter of lists and menus. Defaults are for English; sentences may end as in any language."""

    line_punct_thr: float = Field(default=0.12, ge=0, le=1)
    """Least lines that end as a sentence does."""
    line_punct_exclude_zero: bool = False
    """Let documents pass in which no line does."""
    short_line_thr: float = Field(default=0.67, ge=0, le=1)
    """Most short lines."""
    short_line_length: int = Field(default=30, ge=0)
    """Characters up to which a line is short; 30 are five English words, and twenty Chinese ones."""
    char_duplicates_ratio: float = Field(default=0.01, ge=0, le=1)
    """Most characters in duplicate lines."""
    new_line_ratio: float = Field(default=0.3, ge=0)
    """Most line breaks per word."""


class PiiSettings(Section):
    """Masking of personal data."""

    emails: bool = True
    """Replace e-mail addresses by example ones."""
    ips: bool = True
    """Replace IP addresses by ones that nobody answers at."""
    only_public_ips: bool = True
    """Leave private and reserved addresses as they are."""


class UrlDedupSettings(Section):
    """Removal of documents with the same address, or the same value of another field; those without it are kept."""

    field: str = "url"
    """The field that has the address, one within others as in `meta.url`; it need not be in `metadata_fields`. It is an
    error if no record has it."""
    keep: Literal["first", "longest"] = "longest"
    """Which document of an address is kept; up to 65,535 characters tell texts' lengths apart."""
    against: list[InputPath] = []
    """Outputs of earlier `clean`s, directories: a document whose address one of them has is dropped, too."""


class ExactDedupSettings(Section):
    """Removal of documents with the same text."""

    ignore_whitespace: bool = False
    """Take texts for the same that differ in white space alone."""
    against: list[InputPath] = []
    """Outputs of earlier `clean`s, directories: a document whose text one of them has is dropped, too."""


class SentenceDedupSettings(Section):
    """Removal, from documents, of sentences or lines that an earlier document has in the same order."""

    unit: Literal["sentence", "line"] = "sentence"
    """What a document is made of; a paragraph that is one line of text is found by `line`."""
    span: int = Field(default=3, ge=1)
    """Units in a row that have to agree; with 1 every second copy goes, of a heading too."""
    min_doc_words: int = Field(default=50, ge=0)
    """Fewest words that a document has to have left if it lost some."""
    min_num_sentences: int = Field(default=3, ge=0)
    """Fewest sentences that a document has to have left if it lost some."""
    ignore_numbers: bool = False
    """Take all numbers for one."""
    against: list[InputPath] = []
    """Outputs of earlier `clean`s, directories: what one of them has is removed, too."""


class MinhashDedupSettings(Section):
    """Removal of documents with nearly the same text; of each cluster one is kept."""

    n_grams: int = Field(default=5, ge=1)
    """Words of a shingle."""
    buckets: int = Field(default=14, ge=1)
    """Bands of the signature; two documents that agree in one are duplicates."""
    hashes_per_bucket: int = Field(default=8, ge=1)
    """Hashes of a band; documents of similarity (1 / buckets) ^ (1 / hashes) are found half of the time or more."""
    seed: int = Field(default=1, ge=0, lt=2**32)
    """Chooses the hash functions."""
    ignore_numbers: bool = False
    """Take all numbers for one: two price lists that differ in every figure are then near duplicates."""
    against: list[InputPath] = []
    """Outputs of earlier `clean`s, directories: a document that is near one of theirs is dropped, too."""


class DecontaminationSettings(Section):
    """Removal of documents that share an n-gram with an evaluation file."""

    files: list[InputPattern] = []
    """Evaluation files: JSON, .csv, .tsv, .parquet or .arrow (each text value of a record counts), or text like .txt;
    patterns, directories and archives are allowed."""
    format: Literal["auto", "text", "jsonl", "csv", "tsv", "parquet", "arrow"] = "auto"
    """What the files hold; auto: what their endings tell or, of those without one, their first bytes."""
    encoding: Annotated[str, AfterValidator(canonical_encoding)] = "utf-8"
    """Encoding of text, JSON and CSV files, as Python names it, such as `gb18030`."""
    fields: list[str] | None = None
    """Fields of a record that count, one within others as in `doc.question`; null: all that hold text."""
    n_grams: int = Field(default=12, ge=2)
    """Words that have to agree in a row."""
    ignore_numbers: bool = False
    """Take all numbers for one: any twelve figures in a row then agree with those of an evaluation table."""
