"""What each rank of any layout begins with: the source's values, and what it does not have by the options."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from configs.errors import CheckpointError
from pretrain.config.model import ModelConfig
from pretrain.config.starting import StartOptions
from pretrain.models.gpt.config import GPTConfig
from pretrain.models.initial_values import InitialValues
from pretrain.models.initialization import sharded_shape
from pretrain.starting.architecture import check_model
from pretrain.starting.tables import longest_text, position_tables, token_tables
from pretrain.starting.values import StartingValues
from tests.finetune.finetune_oracle import random_tensors
from tests.pretrain.starting.source_in_memory import GPT2, MODELS, SIZES, SourceInMemory

SEED = 7


def parts(model: ModelConfig, source: SourceInMemory, tensor_size: int, ranks: int, **options: Any) -> dict[str, Any]:
    """The whole tensors, put together from what `ranks` data ranks of each tensor rank are filled with."""
    fill = StartingValues(source, model, StartOptions(**options), InitialValues(SEED))  # type: ignore[arg-type]
    found = {}
    for spec in model.parameters():
        shards = []
        for tensor_rank in range(tensor_size):
            shape = sharded_shape(spec, tensor_rank, tensor_size)
            flat = torch.full((shape.local_elements,), float("nan"))
            size = -(-shape.local_elements // ranks)
            for rank in range(ranks):
                start, stop = min(rank * size, len(flat)), min((rank + 1) * size, len(flat))
                fill(spec, shape, start, stop, flat[start:stop])
            shards.append(flat.view(shape.local_shape))
        if spec.tensor_axis is None or tensor_size == 1:
            assert all(torch.equal(shard, shards[0]) for shard in shards)
            found[spec.name] = shards[0]
        elif spec.blocks == 1:
            found[spec.name] = torch.cat(shards, spec.tensor_axis)
        else:
            blocks = [shard.chunk(spec.blocks) for shard in shards]
            found[spec.name] = torch.cat([block[n] for n in range(spec.blocks) for block in blocks])
    return found


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("tensor_size", "ranks"), [(1, 1), (2, 1), (2, 3)])
def test_every_layout_gets_the_weights_of_the_source(name: str, tensor_size: int, ranks: int) -> None:
    model = MODELS[name]
    ours = random_tensors(model)
    found = parts(model, SourceInMemory(model, ours), tensor_size, ranks)
    assert [key for key in ours if not torch.equal(found[key], ours[key])] == []


@pytest.mark.parametrize("name", ["llama", "bert"])
@pytest.mark.parametrize("rows", ["mean", "drawn"])
@pytest.mark.parametrize("layout", [(1, 1), (2, 3)])
def test_a_grown_vocabulary_has_new_rows_as_asked(name: str, rows: str, layout: tuple[int, int]) -> None:
    old, model = MODELS[name], MODELS[name].model_copy(update={"vocab_size": 60, "vocab_multiple": 32})
    ours = random_tensors(old)
    found = parts(model, SourceInMemory(old, ours), *layout, new_rows=rows)
    for spec in model.parameters():
        if spec.name not in token_tables(model):
            assert torch.equal(found[spec.name], ours[spec.name]), spec.name
            continue
        new, mean = found[spec.name], ours[spec.name].double().mean(0).float()
        assert new.shape[0] == 64 and torch.equal(new[:48], ours[spec.name])
        torch.testing.assert_close(new[60:], mean.expand_as(new[60:]), rtol=0, atol=1e-6)
        if rows == "mean":
            torch.testing.assert_close(new[48:60], mean.expand_as(new[48:60]), rtol=0, atol=1e-6)
            continue
        drawn = torch.empty(new.numel())
        InitialValues(SEED)(spec, sharded_shape(spec, 0, 1), 0, new.numel(), drawn)
        assert torch.equal(new[48:60], drawn.view_as(new)[48:60])


def test_rows_that_were_padding_count_as_new() -> None:
    """Under a trained checkpoint with padding the logits of those rows were pushed down: no text was ever there."""
    old = MODELS["llama"].model_copy(update={"vocab_size": 41})
    ours = random_tensors(old)
    assert old.padded_vocab_size == 48
    model = old.model_copy(update={"vocab_size": 45})
    found = parts(model, SourceInMemory(old, ours), 1, 1)["output_layer.weight"]
    assert torch.equal(found[:41], ours["output_layer.weight"][:41])
    assert not torch.equal(found[41:45], ours["output_layer.weight"][41:45])
    unchanged = parts(old, SourceInMemory(old, ours), 1, 1)["output_layer.weight"]
    assert torch.equal(unchanged, ours["output_layer.weight"])


@pytest.mark.parametrize("name", ["gpt2", "roberta", "bart"])
def test_learned_positions_are_interpolated_repeated_or_cut(name: str) -> None:
    old = MODELS[name]
    ours = random_tensors(old)
    tables = sorted(position_tables(old))
    assert len(tables) == (2 if old.is_encoder_decoder else 1)
    for table in tables:
        check_positions(old, ours, table)


def check_positions(old: ModelConfig, ours: dict[str, torch.Tensor], table: str) -> None:
    unread = ours[table].shape[0] - 16
    # Of an encoder-decoder the longer of the two texts decides.
    longest, other = "seq_length", {"decoder_seq_length": 5} if old.is_encoder_decoder else {}
    if table.startswith("embedding.decoder"):
        longest, other = "decoder_seq_length", {"seq_length": 5}

    def of(length: int, **options: Any) -> torch.Tensor:
        model = old.model_copy(update={longest: length, **other})
        assert longest_text(model) == length
        whole = parts(model, SourceInMemory(old, ours), 1, 1, **options)
        again = parts(model, SourceInMemory(old, ours), 2, 3, **options)
        assert torch.equal(whole[table], again[table])
        return whole[table]

    rows = ours[table][unread:]
    repeated = of(40, extend_positions="repeat")
    assert torch.equal(repeated[unread:], torch.cat([rows, rows, rows])[:40])
    assert torch.equal(repeated[:unread], ours[table][:unread])
    stretched = of(31, extend_positions="interpolate")[unread:]
    assert torch.equal(stretched[::2], rows)
    torch.testing.assert_close(stretched[1::2], (rows[:-1] + rows[1:]) / 2)
    assert torch.equal(of(9), ours[table][: unread + 9])


def test_what_may_differ_is_said_and_the_rest_refused() -> None:
    gpt = GPTConfig(**SIZES, **GPT2)
    source = SourceInMemory(gpt, random_tensors(gpt))
    plain = StartOptions()

    def check(options: StartOptions = plain, **changes: Any) -> list[str]:
        return check_model(source, gpt.model_copy(update=changes), options)  # type: ignore[arg-type]

    assert check(hidden_dropout=0.1, init_std=0.5, init_cutoff=2.0) == []
    with pytest.raises(CheckpointError, match=r"(?s)another architecture.*key +source +model.*model.num_layers +2 +3"):
        check(num_layers=3)
    with pytest.raises(CheckpointError, match="knows 48 token ids, more than the model's 40"):
        check(vocab_size=40)
    assert "grows from 48 to 50 ids: the new rows are drawn" in check(StartOptions(new_rows="drawn"), vocab_size=50)[0]
    assert "14 rows of padding" in check(vocab_size=50)[1]
    with pytest.raises(CheckpointError, match=r"learned positions for 16 tokens(?s:.*)extend_positions=interpolate"):
        check(seq_length=32)
    assert "interpolated" in check(StartOptions(extend_positions="interpolate"), seq_length=32)[0]
    assert check(seq_length=8) == [
        "model.seq_length is 8, the source's 16: each table of positions keeps its first 8 rows"
    ]
    llama = MODELS["llama"]
    longer = llama.model_copy(update={"seq_length": 64})
    told = check_model(SourceInMemory(llama, random_tensors(llama)), longer, plain)  # type: ignore[arg-type]
    assert told == ["model.seq_length is 64, the source's 16: positions are not learned, no weight changes"]
    modern = MODELS["modernbert"]
    turned = modern.model_copy(update={"global_rotary_base": 5e4})
    encoder: Any = SourceInMemory(modern, random_tensors(modern))
    with pytest.raises(CheckpointError, match=r"(?s)global_rotary_base +160000.0 +50000.0.*rescale_rotary=true"):
        check_model(encoder, turned, plain)
    (told_turned,) = check_model(encoder, turned, StartOptions(rescale_rotary=True))
    assert told_turned == "model.global_rotary_base is 50000.0, the source's 160000.0: other rotary angles"
    bart = MODELS["bart"]
    shapes = {spec.name: torch.empty(spec.shape, device="meta") for spec in bart.parameters()}

    def check_bart(options: StartOptions = plain, **changes: Any) -> list[str]:
        return check_model(SourceInMemory(bart, shapes), bart.model_copy(update=changes), options)  # type: ignore[arg-type]

    assert check_bart(activation_dropout=0.1, hidden_dropout=0.1) == []
    both = "model.seq_length is 8, the source's 16 and model.decoder_seq_length is 4, the source's 16"
    assert check_bart(seq_length=8, decoder_seq_length=4) == [f"{both}: each table of positions keeps its first 8 rows"]
    assert check_bart(decoder_seq_length=4)[0].endswith("each table of positions keeps its rows")
    with pytest.raises(CheckpointError, match=r"for 16 tokens, fewer than model.decoder_seq_length=32"):
        check_bart(decoder_seq_length=32)
    assert "interpolated" in check_bart(StartOptions(extend_positions="interpolate"), decoder_seq_length=32)[0]
    del source.tensors["decoder.final_layernorm.bias"]
    with pytest.raises(CheckpointError, match=r"decoder.final_layernorm.bias is not there"):
        check()
