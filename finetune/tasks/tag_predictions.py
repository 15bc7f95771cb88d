"""What a tagger says of words: computed, averaged over several taggers, as a line of predictions.

Shape letters: R windows, S tokens, W words, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from finetune.tasks.tag_schemes import spans

if TYPE_CHECKING:
    import torch

    from finetune.tasks.tagged_texts import TaggedText
    from finetune.tasks.tagged_words import EncodedTags


@dataclass(frozen=True)
class WordPredictions:
    """What a model says of the words of a text.

    Attributes:
        labels: number of the chosen label, int64 [W]; of words without a token the most frequent one.
        probabilities: of it, float32 [W]; 0 for those words.
        losses: cross-entropy, float32 [W]; 0 for those, and for tags that training never saw.
        distributions: probability of every label, float32 [W, C], zeros for those words; None where only the figures
            of a validation are wanted.
    """

    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]
    losses: npt.NDArray[np.float32]
    distributions: npt.NDArray[np.float32] | None = None


def word_logits(
    model: Any, part: EncodedTags, numbers: Sequence[int], device: torch.device
) -> tuple[torch.Tensor, list[tuple[int, int, int, int]]]:
    """fp32 logits [W, C] of the words that are judged, and their places (`EncodedTags.places`)."""
    import torch

    tokens_RS, mask_RS = part.rows(numbers)
    logits_RSC = model(input_ids=tokens_RS.to(device), attention_mask=mask_RS.to(device)).logits
    places = part.places(numbers)
    row_W, position_W = (torch.tensor([p[at] for p in places], dtype=torch.int64, device=device) for at in (0, 1))
    return logits_RSC[row_W, position_W].float(), places


def predict_words(
    model: Any,
    part: EncodedTags,
    numbers: Sequence[int],
    device: torch.device,
    usual: int,
    *,
    keeps_distributions: bool = True,
) -> list[WordPredictions]:
    """What a model says of the words of a few texts.

    Args:
        model: for token classification, in evaluation mode.
        part: the encoded texts.
        numbers: which of them.
        device: where the model is.
        usual: number of the label of words without a token.
        keeps_distributions: whether the probabilities of all labels are kept.
    """
    logits_WC, places = word_logits(model, part, numbers, device)
    chosen_W = logits_WC.argmax(-1).tolist()
    logs_WC = logits_WC.log_softmax(-1).cpu().numpy()
    found = []
    for number in numbers:
        count = len(part.gold[number])
        zeros = np.zeros(count, np.float32)
        every = np.zeros((count, logs_WC.shape[1]), np.float32) if keeps_distributions else None
        found.append(WordPredictions(np.full(count, usual, np.int64), zeros, zeros.copy(), every))
    for logs_C, label, (_, _, at, word) in zip(logs_WC, chosen_W, places):
        gold, text = part.gold[numbers[at]][word], found[at]
        text.labels[word] = label
        text.probabilities[word] = np.exp(logs_C[label])
        text.losses[word] = -logs_C[gold] if gold >= 0 else 0
        if text.distributions is not None:
            text.distributions[word] = np.exp(logs_C)
    return found


def mean_words(predicted: Sequence[WordPredictions]) -> WordPredictions:
    """What several taggers say together of the words of a text: the mean of their probabilities.

    Args:
        predicted: of each tagger, with `distributions`.
    """
    mean_WC = np.mean([found.distributions for found in predicted if found.distributions is not None], axis=0)
    has_token_W = mean_WC.sum(1) > 0
    labels_W = np.where(has_token_W, mean_WC.argmax(1), predicted[0].labels)
    # exp(-loss) is the probability of the right label; of words that do not count it is 1 in every tagger.
    right_W = np.mean([np.exp(-found.losses) for found in predicted], axis=0)
    return WordPredictions(labels_W, mean_WC.max(1, initial=0), -np.log(np.maximum(right_W, 1e-38)), mean_WC)


def word_line(
    example: TaggedText, tags: Sequence[str], predicted: WordPredictions, has_entities: bool
) -> dict[str, Any]:
    """The words of a text with their tags; of entities, with their places in the running text.

    Args:
        example: the text.
        tags: the predicted tag of each word.
        predicted: gives their probabilities.
        has_entities: whether the tags are of entities, in IOB2.
    """
    line = {
        "id": example.id,
        "words": list(example.words),
        "gold": list(example.tags),
        "predicted": list(tags),
        "probabilities": [round(float(p), 6) for p in predicted.probabilities],
    }
    if not has_entities:
        return line
    ends = np.cumsum([len(gap) + len(word) for gap, word in zip(example.gaps, example.words)]).tolist()
    starts = [end - len(word) for end, word in zip(ends, example.words)]
    text = example.text
    entities = [
        {"start": starts[first], "end": ends[last - 1], "type": kind, "text": text[starts[first] : ends[last - 1]]}
        for first, last, kind in spans(tags)
    ]
    return line | {"entities": entities}
