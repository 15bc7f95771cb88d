"""What each token of a text adds to what a saved classifier says: integrated gradients on the embeddings.

Shape letters: S tokens, H hidden size, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from configs.errors import ConfigError, DataError, nearest
from finetune.predictors import Classifier, TextRecord, device

_SAME = 1e-3
"""Largest difference between a logit from ids and the one from their embeddings, as a share of the largest logit."""


@dataclass(frozen=True)
class TokenScore:
    """A token and what it adds.

    Attributes:
        text: its characters in the text, or how the vocabulary writes it, where it stands for none.
        score: the sum of its attributions; of a special token, which the baseline has, too, it is 0.
        is_special: whether it is around the text.
        is_second: whether it is of the second text of a pair.
    """

    text: str
    score: float
    is_special: bool
    is_second: bool = False


@dataclass(frozen=True)
class Attribution:
    """What a classifier goes by in one text.

    Attributes:
        id: names the text.
        target: the label whose logit is explained.
        predicted: what the classifier says.
        logit: of the target, for the text.
        baseline: the same where every token of the text is the one that pads.
        delta: what the scores and `logit - baseline` are apart: completeness would have 0 (Sundararajan et al. 2017).
        tokens: in order.
    """

    id: str
    target: str
    predicted: Any
    logit: float
    baseline: float
    delta: float
    tokens: list[TokenScore]


class Attributor:
    """Explains a saved classifier.

    Args:
        classifier: the model.
        label: whose logit is explained; None: that of the most probable label.
        steps: of the path from the baseline to the text.
        batch_size: steps at a time.

    Raises:
        ConfigError: the model does not know the label.
    """

    def __init__(self, classifier: Classifier, label: str | None = None, steps: int = 64, batch_size: int = 16) -> None:
        self.classifier, self.steps, self.batch_size = classifier, steps, batch_size
        names = classifier.network.config.id2label
        self.labels = [str(names[number]) for number in range(len(names))]
        self.label = label
        if label is not None and label not in self.labels:
            known = ", ".join(self.labels[:20])
            close = nearest(label, self.labels)
            raise ConfigError(f"is {label!r}", where="--label", expected=f"one of {known}", nearest=close)

    def __call__(self, record: TextRecord) -> Attribution:
        """Explain one text.

        Raises:
            DataError: the network computes otherwise from embeddings than from ids.
        """
        import torch
        from captum.attr import IntegratedGradients

        inputs, spans, special = self._read(record)
        network = self.classifier.network
        ids_1S = inputs.pop("input_ids")
        embedding = network.get_input_embeddings()
        base_1S = ids_1S.clone()
        base_1S[0, [n for n, is_special in enumerate(special) if not is_special]] = (
            self.classifier.tokenizer.pad_token_id
        )
        with torch.no_grad():
            logits_C = network(input_ids=ids_1S, **inputs).logits[0].float()
            embedded_1SH, base_1SH = embedding(ids_1S), embedding(base_1S)

        def forward(embeds_NSH: Any) -> Any:
            others = {key: value.expand(len(embeds_NSH), -1) for key, value in inputs.items()}
            return network(inputs_embeds=embeds_NSH, **others).logits.float()

        with torch.no_grad():
            again_C, baseline_C = forward(torch.cat([embedded_1SH, base_1SH]))
        apart = float((again_C - logits_C).abs().max())
        if apart > _SAME * max(1.0, float(logits_C.abs().max())):
            raise DataError(
                f"{type(network).__name__} computes other logits from embeddings than from ids, by {apart:.2g}",
                where="--model",
                expected="a model that reads no more of a token than its embedding",
            )
        target = int(logits_C.argmax()) if self.label is None else self.labels.index(self.label)
        scores_1SH, delta_1 = IntegratedGradients(forward).attribute(
            embedded_1SH,
            baselines=base_1SH,
            target=target,
            n_steps=self.steps,
            internal_batch_size=self.batch_size,
            return_convergence_delta=True,
        )
        tokens = self._tokens(record, ids_1S[0].tolist(), spans, special, scores_1SH[0].sum(-1).tolist())
        predicted = self.classifier([record])[0]["predicted"]
        logit, baseline = float(logits_C[target]), float(baseline_C[target])
        return Attribution(record.id, self.labels[target], predicted, logit, baseline, float(delta_1[0]), tokens)

    def _read(self, record: TextRecord) -> tuple[dict[str, Any], list[tuple[int, int]], list[bool]]:
        """The inputs of a text, the characters of each token, and which tokens are around it."""
        tokenizer = self.classifier.tokenizer
        found = tokenizer(
            record.text,
            record.second,
            truncation=True,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            return_tensors="pt",
        )
        sequences = found.sequence_ids(0)
        spans = [(int(begin), int(end)) for begin, end in found.pop("offset_mapping")[0].tolist()]
        found.pop("special_tokens_mask")
        self._second = [sequence == 1 for sequence in sequences]
        return {key: value.to(device()) for key, value in found.items()}, spans, [each is None for each in sequences]

    def _tokens(
        self,
        record: TextRecord,
        ids: Sequence[int],
        spans: Sequence[tuple[int, int]],
        special: Sequence[bool],
        scores: Sequence[float],
    ) -> list[TokenScore]:
        """Tokens as text; those that share a character, as the bytes of it do, as one."""
        found: list[TokenScore] = []
        last: tuple[bool, int] = (False, -1)
        for number, (begin, end) in enumerate(spans):
            is_second = self._second[number]
            if special[number]:
                piece = str(self.classifier.tokenizer.convert_ids_to_tokens(ids[number]))
                found.append(TokenScore(piece, scores[number], True))
                last = (False, -1)
                continue
            text = (record.second or "") if is_second else record.text
            if found and last[0] == is_second and begin < last[1] and not found[-1].is_special:
                before = found[-1]
                more = text[last[1] : end] if end > last[1] else ""
                found[-1] = TokenScore(before.text + more, before.score + scores[number], False, is_second)
            else:
                # What no token stands for, such as white space, is shown with the next one.
                gap = text[max(last[1], 0) : begin] if last[0] == is_second else text[:begin]
                found.append(TokenScore(gap + text[begin:end], scores[number], False, is_second))
            last = (is_second, max(end, last[1] if last[0] == is_second else -1))
        return found
