"""What a system without a model reaches, for the tasks whose command measures none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.real_tasks.help_tasks import first_sentence
from finetune.tasks.generation_metrics import counted_in, generation_figures
from finetune.tasks.qa_metrics import answer_figures
from finetune.tasks.unspaced import is_unspaced

Records = Sequence[Mapping[str, Any]]


def answer_floors(records: Records) -> dict[str, dict[str, Any]]:
    """Figures of the first sentence of each context, and of the one that has most letters in common with the question.

    Args:
        records: questions with their contexts and answers.
    """
    gold = [record["answers"]["text"] for record in records]
    by_characters = is_unspaced([record["context"] for record in records])
    systems = {
        "first sentence": [first_sentence(record["context"]) for record in records],
        "sentence most like the question": [likest_sentence(r["question"], r["context"]) for r in records],
    }
    return {name: answer_figures(said, gold, by_characters=by_characters) for name, said in systems.items()}


def likest_sentence(question: str, context: str) -> str:
    """The sentence that has the largest share of the question's runs of three characters."""
    wanted = _trigrams(question)
    return max(sentences(context), key=lambda sentence: (wanted & _trigrams(sentence)).total(), default="")


def sentences(text: str) -> list[str]:
    """The sentences of a text."""
    found = []
    while text:
        sentence = first_sentence(text)
        if not sentence:
            break
        found.append(sentence)
        text = text[text.index(sentence) + len(sentence) :].lstrip()
    return found


def reply_floors(train: Records, test: Records) -> dict[str, dict[str, Any]]:
    """Figures of the most frequent reply, and of the reply to the most similar question by TF-IDF of characters."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    asked, replies = zip(*(question_and_reply(record) for record in train))
    questions, gold = zip(*(question_and_reply(record) for record in test))
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3))
    similar = vectors.fit_transform(asked) @ vectors.transform(questions).T
    nearest = similar.argmax(axis=0).tolist()[0]
    common = Counter(replies).most_common(1)[0][0]
    counted = counted_in(gold)
    return {
        "most frequent reply": generation_figures([common] * len(gold), gold, counted),
        "reply to the nearest question": generation_figures([replies[at] for at in nearest], gold, counted),
    }


def question_and_reply(record: Mapping[str, Any]) -> tuple[str, str]:
    """The first two messages of a conversation."""
    first, second = record["messages"][:2]
    return first["content"], second["content"]


def _trigrams(text: str) -> Counter[str]:
    text = text.lower()
    return Counter(text[at : at + length] for length in (1, 2, 3) for at in range(len(text) - length + 1))
