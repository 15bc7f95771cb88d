"""The check of every export: the transformers model must give the outputs that ours gives, each reading its own way.

A row of several documents is one row for ours, which keeps them apart; theirs reads each document alone. A row with
padding is a row with an attention mask for theirs. A decoder reads rows of its own beside them.

Shape letters: N rows, S positions in each, T positions that a decoder reads in each, V vocabulary without padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import CheckpointError
from pretrain.config.model import ModelConfig
from pretrain.data.batch import MicroBatch
from pretrain.models.encoder_decoder.config import EncoderDecoderConfig
from pretrain.models.huggingface.config_fields import NO_IDS, RoleIds
from pretrain.models.huggingface.family import sees_both_sides

if TYPE_CHECKING:
    import torch

    Reference = Callable[[ModelConfig, Mapping[str, torch.Tensor], MicroBatch], Mapping[str, torch.Tensor]]
    """(model, global tensors, what is read) -> fp32 `logits` over the padded vocabulary, and other heads' outputs."""

TOLERANCE = 1e-4
TOKEN_TYPES = "embedding.tokentype_embeddings.weight"
PADDING_SEGMENT = -1
_CHUNK_BYTES = 1 << 30  # logits of both models that are held at once
_THEIR_OUTPUTS = {"logits": ("logits", "prediction_logits"), "pair": ("seq_relationship_logits",)}


@dataclass(frozen=True)
class Agreement:
    """How far two models are apart.

    Attributes:
        largest_difference: of two outputs, absolute.
        largest_logit: for comparison, absolute.
        sequences: that were compared.
        tokens: in all of them.
        outputs: which of the model's.
    """

    largest_difference: float
    largest_logit: float
    sequences: int
    tokens: int
    outputs: tuple[str, ...] = ("logits",)

    def as_dict(self) -> dict[str, Any]:
        """For `export.json`."""
        return asdict(self) | {"outputs": list(self.outputs), "tolerance": TOLERANCE}


def check_rows(
    model: ModelConfig,
    text_ids: Sequence[int],
    count: int,
    seed: int,
    ids: RoleIds = NO_IDS,
    *,
    every_id: bool = False,
) -> MicroBatch:
    """What both models read: `count` random rows and, if there is text, one of it, repeated.

    The random rows have no id twice before all of the vocabulary was drawn. Rows of a model that sees both sides begin
    and end with the special tokens that there are; two more rows of it are padded, one of them with two documents
    before the padding. Token types, where the model has them, all occur. An encoder-decoder has one padded row more,
    and its decoder reads other random rows, each after the token that it begins with.

    Args:
        model: gives the vocabulary and the length, which is the longest that the model knows.
        text_ids: ids of some text; may be empty.
        count: random rows.
        seed: decides them.
        ids: of the tokenizer's special tokens.
        every_id: whether there are as many more rows as it takes to read each id but the padding's.
    """
    import torch

    assert model.vocab_size is not None
    length, is_filled = model.seq_length, sees_both_sides(model)
    num_rows = count + (2 if is_filled else 1 if model.is_encoder_decoder else 0)
    generator = torch.Generator().manual_seed(seed)
    epochs = -(-num_rows * length // model.vocab_size)
    drawn = torch.cat([torch.randperm(model.vocab_size, generator=generator) for _ in range(epochs)])
    tokens_NS = drawn[: num_rows * length].view(num_rows, length)
    num_covering = -(-model.vocab_size // length) if every_id else 0
    covering = torch.arange(num_covering * length).view(num_covering, length) % model.vocab_size
    tokens_NS = torch.cat([tokens_NS, covering])
    if len(text_ids):
        text = torch.tensor(list(text_ids)[:length])
        tokens_NS = torch.cat([tokens_NS, text.repeat(-(-length // len(text)))[None, :length]])
    positions_NS = torch.arange(length).repeat(len(tokens_NS), 1)
    ones_NS, segments_NS = torch.ones(tokens_NS.shape), None
    extras: dict[str, torch.Tensor] = {}
    if is_filled or model.is_encoder_decoder:
        segments_NS = torch.zeros_like(tokens_NS)
        if ids.pad is not None:  # within text there is none
            tokens_NS[tokens_NS == ids.pad] = (ids.pad + 1) % model.vocab_size
        padded, packed = count, count + 1
        end, border = max(2, 3 * length // 4), max(1, length // 3)
        segments_NS[padded, end:] = PADDING_SEGMENT
        if is_filled:
            segments_NS[packed, end:] = PADDING_SEGMENT
            segments_NS[packed, border:end] = 1
            positions_NS[packed, border:] -= border
        kept = tokens_NS[num_rows : num_rows + num_covering].clone()
        _put_specials(tokens_NS, segments_NS, ids)
        tokens_NS[num_rows : num_rows + num_covering] = kept
    if isinstance(model, EncoderDecoderConfig):
        extras |= _decoder_rows(model, len(tokens_NS), generator, ids)
    types = num_token_types(model)
    if types:
        extras["token_types_BS"] = (torch.arange(length) * types // length).repeat(len(tokens_NS), 1)
    return MicroBatch(tokens_NS, tokens_NS, ones_NS, positions_NS, segments_NS, extras=extras)


def _decoder_rows(
    model: EncoderDecoderConfig, num_rows: int, generator: torch.Generator, ids: RoleIds
) -> dict[str, torch.Tensor]:
    """What the decoder reads, [N, T] each."""
    import torch

    assert model.vocab_size is not None
    length = model.target_length
    tokens_NT = torch.randint(0, model.vocab_size, (num_rows, length), generator=generator)
    tokens_NT[:, 0] = getattr(ids, model.decoder_start_role) or 0
    positions_NT = torch.arange(length).repeat(num_rows, 1)
    return {"decoder_tokens_BT": tokens_NT, "decoder_position_ids_BT": positions_NT}


def num_token_types(model: ModelConfig) -> int:
    """Rows of the model's table of token types; 0: it has none."""
    return next((spec.shape[0] for spec in model.parameters() if spec.name == TOKEN_TYPES), 0)


def compare(
    model: ModelConfig,
    tensors: Mapping[str, torch.Tensor],
    theirs: Any,
    rows: MicroBatch,
    reference: Reference | None = None,
) -> Agreement:
    """Run both models, in fp32 on the CPU; every output that both have is compared.

    Args:
        model: our config.
        tensors: our weights by global name.
        theirs: the transformers model, fp32, in evaluation mode.
        rows: what they read.
        reference: our model; None: megatron-core's, as it is trained.
    """
    import torch

    ours = reference if reference is not None else _our_model()
    num_rows, length = rows.tokens_BS.shape
    step = max(1, _CHUNK_BYTES // (2 * 4 * length * model.padded_vocab_size))
    largest_difference = largest_logit = 0.0
    compared: set[str] = set()
    for start in range(0, num_rows, step):
        part = _slice(rows, start, start + step)
        expected = ours(model, tensors, part)
        largest_logit = max(largest_logit, float(expected["logits"][..., : model.vocab_size].abs().max()))
        for reading in _readings(part):
            outputs = _outputs(theirs, reading)
            found = {"logits": expected["logits"][reading.row, reading.first : reading.stop, : model.vocab_size]}
            # Other heads read the first token of a row.
            heads = {name: whole[reading.row] for name, whole in expected.items() if name != "logits"}
            for name, ours_here in (found | (heads if reading.first == 0 else {})).items():
                if name in outputs:
                    difference = (outputs[name][: len(ours_here)] - ours_here).abs().max()
                    # A NaN on either side must not pass as "not greater".
                    known = float(torch.nan_to_num(difference, nan=float("inf")))
                    largest_difference = max(largest_difference, known)
                    compared.add(name)
    tokens = num_rows * length if rows.segment_ids_BS is None else int((rows.segment_ids_BS != PADDING_SEGMENT).sum())
    return Agreement(largest_difference, largest_logit, num_rows, tokens, tuple(sorted(compared)))


def difference_between(one: Any, other: Any, rows: MicroBatch) -> float:
    """The largest difference of the logits of two transformers models on the last row."""
    last = len(rows.tokens_BS) - 1
    differences = [
        float((_outputs(one, reading)["logits"] - _outputs(other, reading)["logits"]).abs().max())
        for reading in _readings(_slice(rows, last, last + 1))
    ]
    return max(differences)


def require(agreement: Agreement, checkpoint: Path) -> None:
    """Let an export pass only if the models agree.

    Raises:
        CheckpointError: they do not.
    """
    if "logits" not in agreement.outputs or not agreement.largest_difference <= TOLERANCE:
        raise CheckpointError(
            f"the exported model's logits differ by {agreement.largest_difference:.3g} from ours"
            f" (largest logit {agreement.largest_logit:.3g}); nothing was written",
            where=checkpoint,
            expected=f"at most {TOLERANCE:g}. Non-finite or very large weights of a diverged run do this; if the run is"
            " healthy, this is a fault of the export: please report it",
        )


@dataclass(frozen=True)
class _Reading:
    """What the transformers model reads in one call, for its outputs at the positions `first` to `stop` of a row."""

    row: int
    first: int
    stop: int
    inputs: Mapping[str, torch.Tensor]


def _readings(rows: MicroBatch) -> Iterator[_Reading]:
    import torch

    num_rows, length = rows.tokens_BS.shape
    given = {"input_ids": rows.tokens_BS}
    if "token_types_BS" in rows.extras:
        given["token_type_ids"] = rows.extras["token_types_BS"]
    decoder_NT = rows.extras.get("decoder_tokens_BT")
    for row in range(num_rows):
        segments_S = torch.zeros(length) if rows.segment_ids_BS is None else rows.segment_ids_BS[row]
        documents = [number for number in segments_S.unique().tolist() if number != PADDING_SEGMENT]
        for number in documents:
            places = (segments_S == number).nonzero()[:, 0]
            first, stop = int(places[0]), int(places[-1]) + 1
            read = length if len(documents) == 1 else stop
            inputs = {name: value[row : row + 1, first:read] for name, value in given.items()}
            if read > stop:
                inputs["attention_mask"] = (segments_S != PADDING_SEGMENT).long()[None]
            if decoder_NT is not None:
                inputs["decoder_input_ids"] = decoder_NT[row : row + 1]
                first, stop = 0, decoder_NT.shape[1]
            yield _Reading(row, first, stop, inputs)


def _outputs(theirs: Any, reading: _Reading) -> dict[str, torch.Tensor]:
    """Outputs of the one sample by our names."""
    import torch

    options = {"use_cache": False} if getattr(theirs, "can_generate", lambda: False)() else {}
    with torch.no_grad():
        result = theirs(**reading.inputs, **options)
    found = {
        ours: next((result[name] for name in names if name in result), None) for ours, names in _THEIR_OUTPUTS.items()
    }
    return {name: value[0] for name, value in found.items() if value is not None}


def _put_specials(tokens_NS: torch.Tensor, segments_NS: torch.Tensor, ids: RoleIds) -> None:
    """In place: what begins and ends each document, a masked token in its midst, and padding."""
    for tokens_S, segments_S in zip(tokens_NS, segments_NS):
        for number in segments_S.unique().tolist():
            places = (segments_S == number).nonzero()[:, 0]
            if number == PADDING_SEGMENT:
                tokens_S[places] = ids.pad or 0
                continue
            for place, token in ((0, ids.classification), (-1, ids.separator), (len(places) // 2, ids.mask)):
                if token is not None and len(places) > 2:
                    tokens_S[places[place]] = token


def _slice(rows: MicroBatch, start: int, stop: int) -> MicroBatch:
    segments_BS = rows.segment_ids_BS
    return MicroBatch(
        rows.tokens_BS[start:stop],
        rows.labels_BS[start:stop],
        rows.loss_mask_BS[start:stop],
        rows.position_ids_BS[start:stop],
        None if segments_BS is None else segments_BS[start:stop],
        extras={name: value[start:stop] for name, value in rows.extras.items()},
    )


def _our_model() -> Reference:
    from pretrain.engine.single import reference_outputs

    return reference_outputs
