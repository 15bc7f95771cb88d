"""A task's training examples as an epoch sees them: some changed, the same ones whatever the ranks and the resume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import xxhash

from configs.errors import ConfigError, DataError
from finetune.augmentation.changes import TextChanges, random_of
from finetune.augmentation.config import AugmentationConfig
from finetune.augmentation.synonyms import SynonymFile, Synonyms, WordNet
from finetune.tasks.base import EncodedPart, FinetuneTask
from finetune.tasks.base_config import TaskConfig
from finetune.tasks.unspaced import is_unspaced

if TYPE_CHECKING:
    from finetune.pretrained import PretrainedModel

_SHOWN_CHARACTERS = 160


@dataclass(frozen=True)
class ExampleChanges:
    """What changes the texts of one example in one epoch, a `TextChanger`.

    Attributes:
        changes: of words and texts.
        random: decides.
        translations: of texts, there and back.
    """

    changes: TextChanges
    random: Random
    translations: Mapping[str, str]

    def text(self, text: str) -> str:
        """See `TextChanger`."""
        share = self.changes.config.back_translation
        if share and self.random.random() < share:
            text = self.translations.get(text, "").strip() or text
        return self.changes.text(text, self.random)

    def words(self, words: Sequence[str], held: Sequence[bool]) -> list[tuple[int, str]]:
        """See `TextChanger`."""
        left_out = self.changes.left_out(len(words), self.random, held)
        kept = ((number, word) for number, word in enumerate(words) if number not in left_out)
        return [(number, self.changes.word(word, self.random, one_word=True)) for number, word in kept]


class _Collector:
    """Notes the texts that a task would have changed, and changes none."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def text(self, text: str) -> str:
        self.found.append(text)
        return text

    def words(self, words: Sequence[str], held: Sequence[bool]) -> list[tuple[int, str]]:
        return list(enumerate(words))


class AugmentedExamples:
    """The training examples of each epoch, encoded when they are asked for.

    Args:
        config: of the task; says what is changed.
        task: changes its examples, and encodes them.
        pretrained: the model, for encoding.
        examples: of the training part.

    Raises:
        UserError: no synonyms or translations can be had, or the changes do not fit the texts' script.
    """

    def __init__(
        self, config: TaskConfig, task: FinetuneTask, pretrained: PretrainedModel, examples: Sequence[Any]
    ) -> None:
        assert config.augmentation is not None
        self.config, self.seed = config.augmentation, config.training_seed
        self._task, self._pretrained, self._examples = task, pretrained, examples
        if self.config.keyboard and is_unspaced(example.text for example in examples):
            raise ConfigError(
                f"is {self.config.keyboard}, and most of the texts are in a script that is typed by its sounds, whose"
                " characters have no neighbours on a keyboard",
                where="augmentation.keyboard",
                expected="0; augmentation.ocr knows characters that look alike",
            )
        synonyms = _synonyms(self.config)
        self.changes = TextChanges(self.config, synonyms)
        self.translations = self._translated(config)
        told = [synonyms.fingerprint if synonyms is not None else "", sorted(self.translations.items())]
        self.fingerprint = xxhash.xxh3_64_hexdigest(repr(told).encode("utf-8", "surrogatepass"))

    def part(self, epoch: int, numbers: Sequence[int]) -> EncodedPart:
        """Some examples as an epoch sees them, in the order that they are asked for."""
        try:
            return self._task.encode(self._pretrained, [self.example(epoch, number) for number in numbers])
        except DataError:
            # A change left a text of which the tokenizer makes nothing.
            return self._task.encode(self._pretrained, [self._examples[number] for number in numbers])

    def example(self, epoch: int, number: int) -> Any:
        """An example as an epoch sees it."""
        example = self._examples[number]
        random = random_of(self.seed, epoch, example.id, example.text)
        if random.random() >= self.config.share:
            return example
        return self._task.changed(example, ExampleChanges(self.changes, random, self.translations))

    def shown(self) -> Iterator[str]:
        """Lines for the console: the first changed texts of the first epoch."""
        count = 0
        for number, example in enumerate(self._examples):
            if count == self.config.shown:
                return
            changed = self.example(0, number)
            if changed.text != example.text:
                count += 1
                yield f"augmented   {_one_line(example.text)}"
                yield f"         -> {_one_line(changed.text)}"

    def _translated(self, config: TaskConfig) -> Mapping[str, str]:
        if not self.config.back_translation:
            return {}
        from finetune.augmentation.back_translation import back_translations

        collector = _Collector()
        for example in self._examples:
            self._task.changed(example, collector)
        folder = self.config.translations or config.output.parent / "back-translations"
        return back_translations(self.config, list(dict.fromkeys(collector.found)), folder)


def _synonyms(config: AugmentationConfig) -> Synonyms | None:
    if config.synonym_file is not None:
        return SynonymFile(config.synonym_file)
    return None if config.wordnet_dir is None else WordNet(config.wordnet_dir)


def _one_line(text: str) -> str:
    shown = " ".join(text.split())
    return shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[:_SHOWN_CHARACTERS]}..."
