"""Preference learning: a pretrained model and completions of which one is better -> a model that prefers it too.

Shape letters: B examples of a micro-batch, N of a part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from configs.errors import DataError
from finetune import batches
from finetune.sequence_template import SequenceTemplate, sequence_template
from finetune.tasks.parsed_examples import ParsedExamples, parse_examples
from finetune.tasks.prefer_config import PreferConfig
from finetune.tasks.preference_texts import Preference, encode_completions, encode_prompts, labelled_of, pair_of
from finetune.tasks.seq2seq_config import GenerationSettings
from finetune.tasks.sequence_pairs import SequencePairs, target_logits, target_losses
from finetune.tasks.writing import answer_ends
from finetune.tasks.writing_task import WritingTask

if TYPE_CHECKING:
    import torch

    from data_prep.reading.documents import Document
    from finetune.pretrained import PretrainedModel
    from finetune.tasks.preference_losses import Scores

REFERENCE = "the pretrained model"


@dataclass(frozen=True)
class CompletionPairs:
    """Preferences as numbers.

    Attributes:
        rows: 2 N prompts with completions: the chosen ones (of KTO, the labelled ones), then the rejected ones (of KTO,
            for its mean divergence, each a completion of another prompt).
        reference: log-probabilities by the pretrained model, float32 [N, 2]; zeros where none are needed.
        desirable: of KTO: which completions are good.
        weights: 1, or 0 for a pair whose completions are the same once they are cut.
    """

    rows: SequencePairs
    reference: npt.NDArray[np.float32]
    desirable: list[bool]
    weights: list[float]

    @property
    def lengths(self) -> list[int]:
        """Tokens of both completions with their prompts."""
        single, count = self.rows.lengths, len(self.weights)
        return [single[number] + single[count + number] for number in range(count)]

    def scores(self, policy_B2: torch.Tensor, numbers: Sequence[int]) -> Scores:
        """The model's log-probabilities of some examples, with what else losses need."""
        import torch

        from finetune.tasks.preference_losses import Scores

        device, count = policy_B2.device, len(self.weights)
        targets = self.rows.targets
        tokens = [[float(len(targets[n])), float(len(targets[count + n]))] for n in numbers]
        reference_B2 = torch.tensor(self.reference[list(numbers)], device=device)
        desirable_B = torch.tensor([self.desirable[n] for n in numbers], device=device)
        repeated_B = torch.tensor(batches.repeated(numbers), device=device)
        return Scores(policy_B2, reference_B2, torch.tensor(tokens, device=device), desirable_B, repeated_B)


class PreferTask(WritingTask):
    """Both completions of an example go through the model in one forward pass, so that pairs stay together.

    Args:
        config: everything that can be told.
    """

    def __init__(self, config: PreferConfig) -> None:
        self.config = config
        self.generation = GenerationSettings(num_beams=1, max_new_tokens=config.data.max_completion_tokens)
        self.parsed = ParsedExamples()

    @property
    def is_paired(self) -> bool:
        """Whether an example is a chosen and a rejected completion."""
        return self.config.loss != "kto"

    def read(self) -> Mapping[str, Sequence[Preference]]:
        """See the base class; pairs of two equal completions are bad records."""
        data, paired = self.config.data, self.is_paired

        def parse(document: Document, identity: str, where: str) -> Preference:
            return (pair_of if paired else labelled_of)(document, data, identity, where)

        field, key = (
            (data.chosen_field, "data.chosen_field") if paired else (data.completion_field, "data.completion_field")
        )
        self.parsed = parse_examples(data, self.config.seed, parse, field, key, {"quoting": data.quoting})
        return self.parsed.parts

    def facts(self) -> dict[str, Any]:
        """See the base class."""
        return self.parsed.facts() | {"loss": self.config.loss}

    def encode(self, pretrained: PretrainedModel, examples: Sequence[Preference]) -> CompletionPairs:
        """See the base class; with the log-probabilities of the pretrained model, where the method needs them."""
        codec, template = pretrained.codec, self.template(pretrained)
        where = f"the tokenizer of {pretrained.path}"
        prompts = [each.prompt for each in examples]
        # A chat template writes all that stands before an answer, what begins a text included.
        chat = replace(template.source, before=None)
        forms = [template.source if isinstance(prompt, str) else chat for prompt in prompts]
        whole = encode_prompts(codec, prompts, where)
        sources = [form.apply(row) for form, row in zip(forms, whole)]
        cut_sources = sum(len(row) > form.room for form, row in zip(forms, whole))
        first = encode_completions(codec, prompts, [each.first for each in examples], where)
        if self.is_paired:
            second = encode_completions(codec, prompts, [each.second or "" for each in examples], where)
        else:
            second = [first[number] for number in _of_other_prompts(prompts)]
        targets = [template.target(row) for row in first + second]
        count = len(examples)
        same = [self.is_paired and targets[n] == targets[count + n] for n in range(count)]
        cut = sum(row[-1] != template.after for row in targets[: count * (1 + self.is_paired)])
        start = pretrained.hf_config["decoder_start_token_id"] if template.is_encoder_decoder else None
        rows = SequencePairs(sources * 2, targets, template, start, [], cut_sources, cut)
        reference = np.zeros((count, 2), dtype=np.float32)
        if self.config.loss != "orpo":
            from finetune.tasks.reference_scores import reference_scores

            reference = reference_scores(pretrained, rows, self.config.reference_folder).reshape(2, count).T.copy()
        weights = [0.0 if equal else 1.0 for equal in same]
        if not any(weights):
            raise DataError(
                "all pairs are the same completion twice once they are cut",
                where="data.max_completion_tokens", expected="more tokens"
            )  # fmt: skip
        return CompletionPairs(rows, reference, [each.desirable for each in examples], weights)

    def describe(self, encoded: Mapping[str, CompletionPairs]) -> Iterator[str]:
        """See the base class."""
        for name, part in encoded.items():
            same, rows = part.weights.count(0.0), part.rows
            what = "pairs" if self.is_paired else f"completions, {sum(part.desirable):,} good"
            cut = f"{rows.cut_sources:,} prompts and {rows.cut_targets:,} completions cut"
            line = f"{name:<10}  {len(part.weights):>6,} {what}; {cut}"
            yield line + (f"; {same:,} pairs do not count, which are the same once cut" if same else "")
        yield from self.parsed.notes("prompts")

    def template(self, pretrained: PretrainedModel) -> SequenceTemplate:
        """See the base class."""
        data = self.config.data
        return sequence_template(pretrained, data.max_prompt_tokens, data.max_completion_tokens)

    def network(self, pretrained: PretrainedModel, *, from_scratch: bool = False) -> torch.nn.Module:
        """See the base class; it goes on ending its answers with what ended them before, such as a chat's turns."""
        network: Any = super().network(pretrained, from_scratch=from_scratch)
        ends = list(dict.fromkeys([network.generation_config.eos_token_id, *answer_ends(pretrained.path)]))
        network.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
        return network

    def losses(self, model: Any, part: CompletionPairs, numbers: Sequence[int], device: torch.device) -> torch.Tensor:
        """See the base class."""
        import torch

        from finetune.tasks.preference_losses import preference_losses

        policy_B2 = _log_probabilities(model, part, numbers, device)
        weights_B = torch.tensor([part.weights[number] for number in numbers], device=device)
        return preference_losses(part.scores(policy_B2, numbers), self.config) * weights_B

    def predict(
        self, model: Any, part: CompletionPairs, numbers: Sequence[int], device: torch.device
    ) -> Sequence[npt.NDArray[np.float32]]:
        """See the base class; log-probability and reward of both completions, float32 [2, 2]."""
        import torch

        from finetune.tasks.preference_losses import rewards

        policy_B2 = _log_probabilities(model, part, numbers, device)
        rewards_B2 = rewards(part.scores(policy_B2, numbers), self.config.loss, self.config.beta)
        return list(torch.stack([policy_B2, rewards_B2], dim=1).cpu().numpy())

    def validation_figures(
        self, part: CompletionPairs, predicted: Sequence[npt.NDArray[np.float32]]
    ) -> Mapping[str, float]:
        """See the base class."""
        figures = self.figures(part, predicted)
        return {key: figures[key] for key in ("loss", "accuracy", "reward_margin")}

    def figures(self, part: CompletionPairs, predicted: Sequence[npt.NDArray[np.float32]]) -> dict[str, Any]:
        """See the base class.

        Of pairs: the share whose chosen completion has the larger reward, the mean of the rewards and of their margin,
        the share whose chosen completion is more probable per token. Of KTO: the share of completions whose reward has
        the sign that their label says, the mean reward of good and of bad ones, the difference.
        """
        import torch

        from finetune.tasks.preference_losses import preference_losses

        found = np.stack(predicted)
        counted = np.array(part.weights) > 0
        numbers = np.flatnonzero(counted).tolist()
        scores = part.scores(torch.from_numpy(found[counted, 0]), numbers)
        figures: dict[str, Any] = {"loss": float(preference_losses(scores, self.config).mean())}
        rewards_N2, good = found[counted, 1], np.array(part.desirable)[counted]
        if self.is_paired:
            first, second = rewards_N2[:, 0], rewards_N2[:, 1]
            figures["accuracy"] = float((first > second).mean())
            means_N2 = (scores.policy_B2 / scores.tokens_B2).numpy()
            figures["more_probable"] = float((means_N2[:, 0] > means_N2[:, 1]).mean())
        else:
            first, second = rewards_N2[good, 0], rewards_N2[~good, 0]
            figures["accuracy"] = float(((rewards_N2[:, 0] > 0) == good).mean())
        better, worse = (float(side.mean()) if len(side) else 0.0 for side in (first, second))
        names = ("chosen_reward", "rejected_reward") if self.is_paired else ("good_reward", "bad_reward")
        return figures | {"reward_margin": better - worse, names[0]: better, names[1]: worse}

    def prediction(self, example: Preference, predicted: npt.NDArray[np.float32]) -> dict[str, Any]:
        """See the base class."""
        (first, second), (reward, other) = ((round(float(v), 5) for v in row) for row in predicted)
        if not self.is_paired:
            return {"id": example.id, "gold": example.desirable, "log_probability": first, "reward": reward}
        said = {"chosen_log_probability": first, "rejected_log_probability": second}
        return {"id": example.id, **said, "chosen_reward": reward, "rejected_reward": other}

    def baselines(
        self, examples: Mapping[str, Sequence[Preference]], encoded: Mapping[str, CompletionPairs], part: str
    ) -> dict[str, dict[str, Any]]:
        """See the base class; which completion of a pair the pretrained model finds more probable."""
        pairs = encoded[part]
        if self.config.loss == "orpo" or not self.is_paired:
            return {}
        tokens_N2 = np.array([len(row) for row in pairs.rows.targets]).reshape(2, -1).T
        means_N2 = (pairs.reference / tokens_N2)[np.array(pairs.weights) > 0]
        return {REFERENCE: {"more_probable": float((means_N2[:, 0] > means_N2[:, 1]).mean())}}


def _log_probabilities(model: Any, part: CompletionPairs, numbers: Sequence[int], device: torch.device) -> torch.Tensor:
    """Log-probabilities of both completions of some examples, fp32 [B, 2], by one forward pass."""
    import torch

    count = len(part.weights)
    both = [*numbers, *(count + number for number in numbers)]
    losses = target_losses(*target_logits(model, part.rows, both, device))
    return -torch.stack(losses.chunk(2), dim=1)


def _of_other_prompts(prompts: Sequence[Any]) -> list[int]:
    """For each prompt the number of the next example with another one.

    Raises:
        DataError: all prompts are the same.
    """
    count = len(prompts)
    found = []
    for number, prompt in enumerate(prompts):
        other = next((n % count for n in range(number + 1, number + count) if prompts[n % count] != prompt), None)
        if other is None:
            raise DataError("all examples of a part have the same prompt", where="data", expected="two that differ")
        found.append(other)
    return found
