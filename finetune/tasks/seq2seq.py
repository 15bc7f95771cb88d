"""Text to text: a pretrained model and pairs of texts -> a model that writes the second for the first."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError, DataError
from finetune.sequence_template import SequenceTemplate, encode_sources, sequence_template
from finetune.tasks.base import TextChanger
from finetune.tasks.example_files import group_of
from finetune.tasks.generation_metrics import BASELINES, counted_in, generation_figures
from finetune.tasks.label_logits import LabelLogits
from finetune.tasks.parsed_examples import ParsedExamples, parse_examples, text_value
from finetune.tasks.seq2seq_config import GENERATED_FIGURES, SOURCE, Seq2SeqConfig
from finetune.tasks.sequence_pairs import SequencePairs, target_label_logits, target_logits, target_losses, targets_hit
from finetune.tasks.writing_task import WritingTask

if TYPE_CHECKING:
    import torch

    from data_prep.reading.documents import Document
    from finetune.pretrained import PretrainedModel
    from finetune.tasks.generation_metrics import Counted
    from finetune.text_codec import TextCodec


@dataclass(frozen=True, slots=True)
class TextPair:
    """What is read and what is to be written.

    Attributes:
        id: names it in the predictions.
        source: what is read.
        target: what is to be written.
        group: examples of one group stay on one side of the split.
        label: the same for all: nothing is shared out evenly.
    """

    id: str
    source: str
    target: str
    group: str
    label: str = ""

    @property
    def text(self) -> str:
        """What is read, for finding what stands in two parts."""
        return self.source


@dataclass(frozen=True, slots=True)
class Written:
    """What a model says of a pair.

    Attributes:
        loss: nats of the target, summed over its tokens.
        tokens: of the target.
        hits: its tokens that were the most probable ones.
        text: what the model writes; None: nobody asked.
    """

    loss: float
    tokens: int
    hits: int
    text: str | None = None


class Seq2SeqTask(WritingTask):
    """Pairs of texts; loss on the tokens of the target alone, beam search at the end.

    Args:
        config: everything that can be told.
    """

    def __init__(self, config: Seq2SeqConfig) -> None:
        self.config = config
        self.generation = config.generation
        self.parsed = ParsedExamples()
        self.counted: Counted = "words"
        self.codec: TextCodec | None = None

    def read(self) -> Mapping[str, Sequence[TextPair]]:
        """See the base class."""
        data = self.config.data

        def parse(document: Document, identity: str, where: str) -> TextPair:
            if not document.text.strip():
                raise DataError(f"its field {data.source_field!r} is empty", where=where, expected="a text")
            target = text_value(document, data.target_field, "data.target_field", where)
            return TextPair(identity, document.text, target, group_of(document, data.split_by, where))

        self.parsed = parse_examples(
            data, self.config.seed, parse, data.source_field, "data.source_field", {"quoting": data.quoting}
        )
        asked = self.config.generation.counted
        targets = [pair.target for part in self.parsed.parts.values() for pair in part]
        self.counted = counted_in(targets) if asked == "auto" else asked
        return self.parsed.parts

    def changed(self, example: TextPair, changer: TextChanger) -> TextPair:
        """See the base class; the source alone."""
        return replace(example, source=changer.text(example.source))

    def facts(self) -> dict[str, Any]:
        """See the base class."""
        return self.parsed.facts() | {"counted": self.counted}

    def encode(self, pretrained: PretrainedModel, examples: Sequence[TextPair]) -> SequencePairs:
        """See the base class."""
        self.codec, template = pretrained.codec, self.template(pretrained)
        prompt = self.prompt(is_encoder_decoder=template.is_encoder_decoder)
        sources, cut = encode_sources(self.codec, [pair.source for pair in examples], prompt, template)
        targets = self.codec.encode_batch([pair.target for pair in examples])
        labels = [template.target(row) for row in targets]
        start = pretrained.hf_config.get("decoder_start_token_id") if template.is_encoder_decoder else None
        if template.is_encoder_decoder and start is None:
            raise DataError("does not say which token its decoder begins with", where=pretrained.path)
        cut_targets = sum(row[-1] != template.after for row in labels)
        references = [pair.target for pair in examples]
        return SequencePairs(sources, labels, template, start, references, cut, cut_targets)

    def describe(self, encoded: Mapping[str, SequencePairs]) -> Iterator[str]:
        """See the base class."""
        for name, part in encoded.items():
            means = (sum(map(len, rows)) / len(rows) for rows in (part.sources, part.targets))
            read, written = means
            cut = f"; {part.cut_sources:,} sources and {part.cut_targets:,} targets cut"
            yield f"{name:<10}  {len(part.sources):>6,} pairs, {read:.0f} and {written:.0f} tokens on average{cut}"
        yield from self.parsed.notes("pairs")

    def losses(self, model: Any, part: SequencePairs, numbers: Sequence[int], device: torch.device) -> torch.Tensor:
        """See the base class; cross-entropy of the target's tokens."""
        return target_losses(*target_logits(model, part, numbers, device))

    def label_logits(
        self, model: Any, part: SequencePairs, numbers: Sequence[int], device: torch.device
    ) -> LabelLogits:
        """See the base class; a prediction for each token of a target, the labels are the vocabulary."""
        return target_label_logits(model, part, numbers, device)

    def predict(
        self, model: Any, part: SequencePairs, numbers: Sequence[int], device: torch.device
    ) -> Sequence[Written]:
        """See the base class; what it says of the target, and what it writes."""
        return self._predict(model, part, numbers, device, writes=True)

    def predict_validation(
        self, model: Any, part: SequencePairs, numbers: Sequence[int], device: torch.device
    ) -> Sequence[Written]:
        """See the base class; writes only if told to."""
        return self._predict(model, part, numbers, device, writes=self.config.generation.at_validation)

    def validation_figures(self, part: SequencePairs, predicted: Sequence[Written]) -> Mapping[str, float]:
        """See the base class."""
        figures = self.figures(part, predicted)
        return {key: figures[key] for key in ("loss", "token_accuracy", *GENERATED_FIGURES) if key in figures}

    def figures(self, part: SequencePairs, predicted: Sequence[Written]) -> dict[str, Any]:
        """See the base class; nats per token, share of the tokens that were the most probable, figures of the texts."""
        tokens = sum(each.tokens for each in predicted)
        found: dict[str, Any] = {
            "loss": sum(each.loss for each in predicted) / tokens,
            "token_accuracy": sum(each.hits for each in predicted) / tokens,
        }
        texts = [each.text for each in predicted if each.text is not None]
        return found | (generation_figures(texts, part.references, self.counted) if texts else {})

    def prediction(self, example: TextPair, predicted: Written) -> dict[str, Any]:
        """See the base class."""
        loss = round(predicted.loss / predicted.tokens, 6)
        said = {"source": example.source, "gold": example.target, "predicted": predicted.text}
        return {"id": example.id, **said, "loss": loss}

    def baselines(
        self, examples: Mapping[str, Sequence[TextPair]], encoded: Mapping[str, SequencePairs], part: str
    ) -> dict[str, dict[str, Any]]:
        """See the base class; the source itself, and its first sentence."""
        pairs = examples[part]
        chosen = [BASELINES[name] for name in BASELINES if name in self.config.baselines]
        return {
            called: generation_figures([write(p.source) for p in pairs], [p.target for p in pairs], self.counted)
            for called, write in chosen
        }

    def tables(self, systems: Mapping[str, Mapping[str, Any]], part: str) -> Iterator[Any]:
        """See the base class; figures of what was written, from 0 to 100."""
        from rich.table import Table

        table = Table(title=f"{part} part", title_justify="left")
        for column in ("", *GENERATED_FIGURES, "loss"):
            table.add_column(column, justify="right" if column else "left")
        for name, figures in systems.items():
            loss = f"{figures['loss']:.4f}" if "loss" in figures else ""
            table.add_row(name, *(f"{figures[key]:.2f}" for key in GENERATED_FIGURES), loss)
        yield table
        yield from (f"{name:<6} {signature}" for name, signature in next(iter(systems.values()))["signatures"].items())

    def next_command(self, folder: Path) -> str | None:
        """See the base class."""
        if not (folder / "tokenizer_config.json").is_file():
            return None
        is_encoder_decoder = bool(json.loads((folder / "config.json").read_text("utf-8")).get("is_encoder_decoder"))
        head, tail = self.prompt(is_encoder_decoder=is_encoder_decoder).split(SOURCE)
        auto = "AutoModelForSeq2SeqLM" if is_encoder_decoder else "AutoModelForCausalLM"
        start = "" if is_encoder_decoder else "[len(x.input_ids[0]):]"
        code = (
            f"from transformers import {auto} as M, AutoTokenizer as T; d = {str(folder)!r}; t = T.from_pretrained(d); "
            f"x = t({head!r} + input() + {tail!r}, return_tensors='pt'); "
            f"print(t.decode(M.from_pretrained(d).generate(**x)[0]{start}, skip_special_tokens=True))"
        )
        return f"python -c {shlex.quote(code)}"

    def prompt(self, *, is_encoder_decoder: bool) -> str:
        """The template of what the model reads."""
        usual = SOURCE if is_encoder_decoder else f"{SOURCE}\n"
        return usual if self.config.prompt is None else self.config.prompt

    def _predict(
        self, model: Any, part: SequencePairs, numbers: Sequence[int], device: torch.device, *, writes: bool
    ) -> Sequence[Written]:
        from finetune.tasks.writing import write_texts

        logits_BTV, labels_BT = target_logits(model, part, numbers, device)
        losses, hits = target_losses(logits_BTV, labels_BT).tolist(), targets_hit(logits_BTV, labels_BT).tolist()
        texts: Sequence[str | None] = [None] * len(numbers)
        if writes:
            assert self.codec is not None
            texts = write_texts(model, [part.sources[n] for n in numbers], part.template, self.codec, device)
        tokens = [len(part.targets[number]) for number in numbers]
        return [Written(*each) for each in zip(losses, tokens, hits, texts)]

    def template(self, pretrained: PretrainedModel) -> SequenceTemplate:
        """See the base class."""
        data, new = self.config.data, self.config.generation.max_new_tokens
        if new is not None and new > data.max_target_tokens:
            # What is written has to fit the context, too; a decoder's behind the source.
            longer = sequence_template(pretrained, data.max_source_tokens, new)
            if longer.target_tokens < new:
                raise ConfigError(
                    f"is {new}",
                    where="generation.max_new_tokens",
                    expected=f"at most {longer.target_tokens}, the context",
                )
            return replace(longer, target_tokens=data.max_target_tokens)
        return sequence_template(pretrained, data.max_source_tokens, data.max_target_tokens)
