"""LibreOffice's help -> topics, translations, questions, conversations and preferences.

Translations and topics are as they were written. The questions, most conversations and the preferences are built:
nobody asked them. A question is a heading, its answer the first sentence of the paragraph that follows it; what is
preferred is that sentence to the one on another heading of the same page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from benchmarks.real_tasks.help_pages import HelpPage
from benchmarks.real_tasks.parts import GroupedExample

APPLICATIONS = {
    "swriter": "Writer", "scalc": "Calc", "simpress": "Impress", "sdraw": "Draw", "sbasic": "Basic", "smath": "Math",
    "schart": "Chart", "sdatabase": "Base",
}  # fmt: skip
"""The folders that are a topic; what several applications share is in none of them."""
ASKED = {"en": "Tell me about {heading}.", "zh": "请介绍“{heading}”。"}
_BETWEEN = {"en": " ", "zh": ""}
_TOPIC_CHARACTERS = {"en": 600, "zh": 250}
_ANSWER_CHARACTERS = {"en": 160, "zh": 60}
_CONTEXT_BLOCKS = 4
_SENTENCE = re.compile(r".+?(?:[。！？]|[.!?](?=\s|$)|$)", re.DOTALL)
_HAN = re.compile("[\u4e00-\u9fff]")
_LETTER = re.compile("[A-Za-z]{2}")
_LONGEST_TRANSLATED = {"en": 160, "zh": 80}


def topics(pages: Iterable[HelpPage], language: str) -> Iterator[GroupedExample]:
    """The beginning of each page, whose application is to be told."""
    for page in pages:
        text = _BETWEEN[language].join(block.text for block in page.blocks)[: _TOPIC_CHARACTERS[language]]
        if page.application in APPLICATIONS and len(text) > 40:
            yield GroupedExample(page.name, text, {"text": text, "label": APPLICATIONS[page.application]})


def translations(
    aligned: Iterable[tuple[str, str, str]], interface: Iterable[tuple[str, str]], into: str
) -> Iterator[GroupedExample]:
    """Pairs of an English and a Chinese text, each page and each English text of the interface a group."""
    texts = [*aligned, *((english.lower(), english, chinese) for english, chinese in interface)]
    for group, english, chinese in texts:
        lengths_fit = len(english) <= _LONGEST_TRANSLATED["en"] and len(chinese) <= _LONGEST_TRANSLATED["zh"]
        if lengths_fit and _LETTER.search(english) and _HAN.search(chinese) and not _HAN.search(english):
            source, target = (english, chinese) if into == "zh" else (chinese, english)
            yield GroupedExample(group, source, {"source": source, "target": target})


def questions(pages: Iterable[HelpPage], language: str) -> Iterator[GroupedExample]:
    """Headings, the paragraphs that follow some of them as the context, the first sentence of the right one."""
    for page in pages:
        headed = distinct(page.headed())
        for start in range(0, len(headed) - 1, _CONTEXT_BLOCKS):
            some = headed[start : start + _CONTEXT_BLOCKS]
            if len(some) < 2:
                continue
            context, begins = "", []
            for _, paragraph in some:
                context += _BETWEEN[language] if context else ""
                begins.append(len(context))
                context += paragraph
            for (heading, paragraph), begin in zip(some, begins):
                answer = first_sentence(paragraph)
                if len(answer) <= _ANSWER_CHARACTERS[language]:
                    answers = {"text": [answer], "answer_start": [begin]}
                    record = {"question": heading, "context": context, "answers": answers}
                    yield GroupedExample(page.name, f"{heading} {context}", record)


def conversations(pages: Iterable[HelpPage], language: str) -> Iterator[GroupedExample]:
    """A heading that is asked about, and the first sentence on it."""
    for page in pages:
        for heading, paragraph in distinct(page.headed()):
            asked = ASKED[language].format(heading=heading)
            yield GroupedExample(page.name, asked, {"messages": _messages([asked, first_sentence(paragraph)])})


def written_conversations(root: Path, language: str) -> Iterator[GroupedExample]:
    """The conversations of chatterbot-corpus, whose group is what they begin with."""
    folder = next(root.rglob({"en": "english", "zh": "chinese"}[language]))
    for file in sorted(folder.glob("*.yml")):
        for turns in yaml.safe_load(file.read_text("utf-8"))["conversations"]:
            texts = [" ".join(str(turn).split()) for turn in turns[: len(turns) // 2 * 2]]
            if texts and all(texts):
                yield GroupedExample(texts[0].lower(), " | ".join(texts), {"messages": _messages(texts)})


def preferences(pages: Iterable[HelpPage], language: str) -> Iterator[GroupedExample]:
    """A heading that is asked about; the first sentence on it is better than that on the page's next heading."""
    for page in pages:
        headed = distinct(page.headed())
        for at, (heading, paragraph) in enumerate(headed):
            other = headed[(at + 1) % len(headed)][1]
            chosen, rejected = first_sentence(paragraph), first_sentence(other)
            if chosen != rejected:
                asked = ASKED[language].format(heading=heading)
                record = {"prompt": f"{asked}\n", "chosen": chosen, "rejected": rejected}
                yield GroupedExample(page.name, f"{asked} {chosen}", record)


def distinct(headed: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headings and paragraphs, without those whose heading or paragraph stood before."""
    seen: set[str] = set()
    found = []
    for heading, paragraph in headed:
        if heading not in seen and paragraph not in seen and len(paragraph) > 8:
            found.append((heading, paragraph))
        seen |= {heading, paragraph}
    return found


def first_sentence(text: str) -> str:
    """The beginning of a text up to the end of its first sentence."""
    found = _SENTENCE.match(text)
    return found[0].strip() if found else text


def _messages(texts: list[str]) -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)]
