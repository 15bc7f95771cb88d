"""Distillation of language models: texts and a teacher -> a smaller decoder that says what follows as the teacher does.

Shape letters: B texts, T tokens that are predicted, V vocabulary.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError, DataError
from finetune.batches import by_length
from finetune.sequence_template import SequenceTemplate, sequence_template
from finetune.tasks.distill_config import DistillConfig
from finetune.tasks.example_files import group_of
from finetune.tasks.label_logits import LabelLogits
from finetune.tasks.parsed_examples import ParsedExamples, parse_examples
from finetune.tasks.seq2seq_config import GenerationSettings
from finetune.tasks.sequence_pairs import SequencePairs, target_label_logits, target_logits, target_losses, targets_hit
from finetune.tasks.writing_task import WritingTask

if TYPE_CHECKING:
    import torch

    from data_prep.reading.documents import Document
    from finetune.pretrained import PretrainedModel

TEACHER, PRETRAINED = "teacher", "pretrained"
_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class PlainText:
    """A text.

    Attributes:
        id: names it in the predictions.
        text: the text.
        group: texts of one group stay on one side of the split.
        label: the same for all: nothing is shared out evenly.
    """

    id: str
    text: str
    group: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class ReadText:
    """What a model says of a text.

    Attributes:
        loss: nats, summed over its tokens.
        tokens: that were predicted.
        hits: those that were the most probable ones.
    """

    loss: float
    tokens: int
    hits: int


class DistillTask(WritingTask):
    """Each text alone, from its beginning; each of its tokens, and its end, is predicted by those before it.

    Args:
        config: everything that can be told.
    """

    def __init__(self, config: DistillConfig) -> None:
        self.config = config
        self.generation = GenerationSettings(num_beams=1)
        self.parsed = ParsedExamples()
        self._pretrained: PretrainedModel | None = None

    def read(self) -> Mapping[str, Sequence[PlainText]]:
        """See the base class."""
        data = self.config.data

        def parse(document: Document, identity: str, where: str) -> PlainText:
            if not document.text.strip():
                raise DataError(f"its field {data.text_field!r} is empty", where=where, expected="a text")
            return PlainText(identity, document.text, group_of(document, data.split_by, where))

        self.parsed = parse_examples(
            data, self.config.seed, parse, data.text_field, "data.text_field", {"quoting": data.quoting}
        )
        return self.parsed.parts

    def facts(self) -> dict[str, Any]:
        """See the base class."""
        return self.parsed.facts()

    def template(self, pretrained: PretrainedModel) -> SequenceTemplate:
        """See the base class."""
        if pretrained.is_encoder_decoder:
            raise DataError("is an encoder-decoder", where=pretrained.path, expected="a decoder")
        room = self.config.data.max_tokens
        if pretrained.context is not None:
            room = min(room, pretrained.context)
        found = sequence_template(pretrained, 4, max(room - 4, 2))
        # The saved tokenizer cuts texts where the model's context ends, not where those of the training did.
        return replace(found, source_tokens=pretrained.context or room)

    def encode(self, pretrained: PretrainedModel, examples: Sequence[PlainText]) -> SequencePairs:
        """See the base class; what begins a text is read, all after it is predicted."""
        self._pretrained, template = pretrained, self.template(pretrained)
        rows = pretrained.codec.encode_batch([example.text for example in examples])
        nothing = next((example.id for example, row in zip(examples, rows) if not row), None)
        if nothing is not None:
            raise DataError("has a text without tokens", where=nothing, expected="text")
        before = [template.before] if template.before is not None else []
        sources = [before or row[:1] for row in rows]
        targets = [template.target(row if before else row[1:]) for row in rows]
        cut = sum(target[-1] != template.after for target in targets)
        texts = [example.text for example in examples]
        return SequencePairs(sources, targets, template, None, texts, cut_targets=cut)

    def describe(self, encoded: Mapping[str, SequencePairs]) -> Iterator[str]:
        """See the base class."""
        for name, part in encoded.items():
            mean = sum(part.weights) / len(part.targets)
            yield f"{name:<10}  {len(part.targets):>6,} texts, {mean:.0f} tokens on average; {part.cut_targets:,} cut"
        yield from self.parsed.notes("texts")

    def teacher_network(self, folder: Path, pretrained: PretrainedModel, part: SequencePairs) -> Any:
        """See the base class; a run or an exported model with the same vocabulary."""
        from finetune.distillation.teacher import WHERE, check_vocabulary
        from finetune.language_networks import language_network
        from finetune.pretrained import read_pretrained

        check_vocabulary(folder, pretrained, part.references[:50])
        theirs = read_pretrained(folder)
        sizes = [int(each.hf_config["vocab_size"]) for each in (pretrained, theirs)]
        longest = max(part.lengths)
        if theirs.is_encoder or theirs.is_encoder_decoder or sizes[0] != sizes[1]:
            said = f"has {sizes[1]} logits" if sizes[0] != sizes[1] else "is no decoder"
            raise ConfigError(said, where=WHERE, expected=f"a decoder with {sizes[0]} logits, as {pretrained.path}")
        if theirs.context is not None and longest > theirs.context:
            raise ConfigError(
                f"reads {theirs.context} tokens", where=WHERE, expected=f"data.max_tokens below {longest}"
            )
        return language_network(theirs, {"use_cache": False})

    def losses(self, model: Any, part: SequencePairs, numbers: Sequence[int], device: torch.device) -> torch.Tensor:
        """See the base class; cross-entropy of the tokens."""
        return target_losses(*target_logits(model, part, numbers, device))

    def label_logits(
        self, model: Any, part: SequencePairs, numbers: Sequence[int], device: torch.device
    ) -> LabelLogits:
        """See the base class; a prediction for each token, the labels are the vocabulary."""
        return target_label_logits(model, part, numbers, device)

    def predict(
        self, model: Any, part: SequencePairs, numbers: Sequence[int], device: torch.device
    ) -> Sequence[ReadText]:
        """See the base class."""
        logits_BTV, labels_BT = target_logits(model, part, numbers, device)
        losses, hits = target_losses(logits_BTV, labels_BT).tolist(), targets_hit(logits_BTV, labels_BT).tolist()
        return [ReadText(*each) for each in zip(losses, (len(part.targets[n]) for n in numbers), hits)]

    def validation_figures(self, part: SequencePairs, predicted: Sequence[ReadText]) -> Mapping[str, float]:
        """See the base class."""
        return self.figures(part, predicted)

    def figures(self, part: SequencePairs, predicted: Sequence[ReadText]) -> dict[str, Any]:
        """See the base class; nats per token, their exponential, share of the tokens that were the most probable."""
        tokens = sum(each.tokens for each in predicted)
        loss = sum(each.loss for each in predicted) / tokens
        accuracy = sum(each.hits for each in predicted) / tokens
        return {"loss": loss, "perplexity": math.exp(min(loss, 700)), "token_accuracy": accuracy}

    def prediction(self, example: PlainText, predicted: ReadText) -> dict[str, Any]:
        """See the base class."""
        return {"id": example.id, "tokens": predicted.tokens, "loss": round(predicted.loss / predicted.tokens, 6)}

    def baselines(
        self, examples: Mapping[str, Sequence[PlainText]], encoded: Mapping[str, SequencePairs], part: str
    ) -> dict[str, dict[str, Any]]:
        """See the base class; the teacher, and the model before the training."""
        pretrained, teacher = self._pretrained, self.config.distillation.teacher
        assert pretrained is not None
        networks = {
            TEACHER: lambda: self.teacher_network(teacher, pretrained, encoded[part]),
            PRETRAINED: lambda: self.network(pretrained),
        }
        return {
            name: self._measured(make(), encoded[part])
            for name, make in networks.items()
            if name in self.config.baselines
        }

    def next_command(self, folder: Path) -> str | None:
        """See the base class."""
        return f"python -m finetune generate --model {shlex.quote(str(folder))} --prompt ..."

    def _measured(self, network: Any, part: SequencePairs) -> dict[str, Any]:
        import torch

        from finetune.task_batches import predictions

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        groups = by_length(part.lengths, _AT_ONCE)
        found = predictions(self.predict, network.to(device), part, groups, device)
        return self.figures(part, [found[number] for number in range(len(part.lengths))])
