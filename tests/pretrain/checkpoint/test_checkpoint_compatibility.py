from __future__ import annotations

from pathlib import Path

import pytest

from configs.errors import CheckpointError
from configs.load import load_config
from pretrain.checkpoint.compatibility import check_compatible, find_changes
from pretrain.config import RunConfig

BASE = [
    "output=runs/a",
    "model={num_layers: 2, hidden_size: 32, num_attention_heads: 4, seq_length: 16, vocab_size: 100}",
    "data.train=[{corpus: a, weight: 1}, {corpus: b, weight: 3}]",
    "training={duration: 100 steps, micro_batch_size: 2, global_batch_size: 8, precision: fp32}",
    "optimizer={lr: 1.0e-3, warmup: 10 steps}",
]
DATA = {
    "seed": 1234,
    "seq_length": 16,
    "split": [0.98, 0.01, 0.01],
    "tokenizer": "t1",
    "train": [{"corpus": "ab12", "share": "1/4"}, {"corpus": "cd34", "share": "3/4"}],
}


def config(*overrides: str) -> RunConfig:
    return load_config(RunConfig, None, [*BASE, *overrides])


def saved() -> dict:
    """Metadata as it is read back."""
    run = config()
    return {
        "step": 50,
        "config": run.model_dump(mode="json"),
        "model": run.model.model_dump(mode="json") | {"padded_vocab_size": 128},
        "data_fingerprint": DATA,
        "tokenizer_fingerprint": "t1",
    }


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["output=elsewhere", "data.train=[{corpus: moved/a}, {corpus: moved/b, weight: 3}]"],
        ["training.micro_batch_size=1", "training.duration=200 steps"],
        ["parallel={tensor_size: 2, pipeline_size: 2, zero_stage: 3, sequence_parallel: true, recompute: full}"],
        ["evaluation.interval=7 steps", "checkpoint={interval: 3 steps, keep_last: 9}", "monitor.log_interval=1"],
        ["model.num_query_groups=4", "model.ffn_hidden_size=128"],
        ["data={train: [{corpus: a}, {corpus: b, weight: 3}], index_cache: /fast, prefetch_batches: 9}"],
        ["training.max_skipped_steps=1", "training.initial_loss_scale=8", "model.vocab_size=null"],
    ],
)
def test_what_does_not_change_the_course_is_free(overrides):
    assert check_compatible(saved(), config(*overrides), DATA, "t1") == []


@pytest.mark.parametrize(
    ("override", "key", "before", "now"),
    [
        ("seed=7", "seed", "1234", "7"),
        ("model.hidden_dropout=0.1", "model.hidden_dropout", "0.0", "0.1"),
        ("model.num_query_groups=2", "model.num_query_groups", "4", "2"),
        ("model.vocab_size=101", "model.vocab_size", "100", "101"),
        ("training.global_batch_size=16", "training.global_batch_size", "8", "16"),
        ("training.batch_ramp={start: 2, increment: 2, samples: 99}", "training.batch_ramp", "null", "{'start': 2"),
        ("training.precision=bf16", "training.precision", "fp32", "bf16"),
        ("optimizer.lr=2.0e-3", "optimizer.lr", "0.001", "0.002"),
        ("optimizer.warmup=20 steps", "optimizer.warmup", "10 steps", "20 steps"),
    ],
)
def test_a_changed_setting_is_refused_with_both_values(override, key, before, now):
    with pytest.raises(CheckpointError) as error:
        check_compatible(saved(), config(override), DATA, "t1", where=Path("runs/a/checkpoints/step_00000050"))
    line = next(line.split() for line in str(error.value).splitlines() if line.strip().startswith(f"{key} "))
    assert line[0] == key
    assert " ".join(line[1:]).startswith(f"{before} {now}")
    assert f"checkpoint.allow_changes=[{key}]" in str(error.value)
    assert "step_00000050: was saved by another run at step 50" in str(error.value)
    accepted = check_compatible(saved(), config(override), DATA, "t1", [key])
    assert len(accepted) == 1
    assert accepted[0].startswith(f"{key}: {before} -> {now}")


def test_other_data_and_another_tokenizer_are_refused():
    other = DATA | {"train": DATA["train"][:1], "tokenizer": "t2", "split": [0.9, 0.05, 0.05]}
    with pytest.raises(CheckpointError) as error:
        check_compatible(saved(), config(), other, "t2")
    assert "allow_changes=[data.split,data.train,tokenizer]" in "".join(sorted_names(str(error.value)))
    assert set(find_changes(saved(), config(), other, "t2")) == {"data.split", "data.train", "tokenizer"}
    check_compatible(saved(), config(), other, "t2", ["data", "tokenizer"])


def sorted_names(message: str) -> list[str]:
    head, _, names = message.partition("allow_changes=[")
    names, _, tail = names.partition("]")
    return [head, "allow_changes=[", ",".join(sorted(names.split(","))), "]", tail]


def test_a_section_accepts_its_keys_and_no_others():
    changed = config("optimizer.lr=2.0e-3", "optimizer.beta2=0.9", "seed=1")
    with pytest.raises(CheckpointError) as error:
        check_compatible(saved(), changed, DATA, "t1", ["optimizer"])
    assert "allow_changes=[optimizer,seed]" in str(error.value)
    assert "optimizer.lr" not in str(error.value)
    assert len(check_compatible(saved(), changed, DATA, "t1", ["optimizer", "seed"])) == 3


def test_states_of_another_optimizer_are_never_accepted():
    old = saved()
    old["config"]["optimizer"]["name"] = "lamb"
    for allowed in ([], ["optimizer"], ["optimizer.name"]):
        with pytest.raises(CheckpointError, match=r"(?s)optimizer\.name +lamb +adamw.*optimizer\.name=lamb") as error:
            check_compatible(old, config(), DATA, "t1", allowed)
        assert "allow_changes" not in str(error.value)


STATES = [
    ("adamw", "average_decay", "null", "0.9", "average"),
    ("sgd", "momentum", "0.0", "0.9", "momentum_buffer"),
    ("adafactor", "beta1", "null", "0.9", "exp_avg"),
]


def saved_with(name: str, key: str, value: str) -> dict:
    run = config(f"optimizer.name={name}", f"optimizer.{key}={value}")
    return saved() | {"config": run.model_dump(mode="json")}


@pytest.mark.parametrize(("name", "key", "off", "on", "state"), STATES)
def test_a_state_that_the_checkpoint_lacks_is_never_accepted(name, key, off, on, state):
    old, run = saved_with(name, key, off), config(f"optimizer.name={name}", f"optimizer.{key}={on}", "optimizer.lr=0.5")
    for allowed in ([], ["optimizer"], [f"optimizer.{key}", "optimizer.lr"]):
        with pytest.raises(CheckpointError) as error:
            check_compatible(old, run, DATA, "t1", allowed, where=Path("runs/a/checkpoints"))
        text = str(error.value)
        assert f"would need the state {state}, which the checkpoint lacks" in text
        assert f"optimizer.{key}={off}; or start_from=runs/a and another output" in text
        assert "allow_changes" not in text and "optimizer.lr" not in text
    # An evaluation reads the weights alone.
    assert len(check_compatible(old, run, DATA, "t1", ["optimizer"], reads_states=False)) == 2


@pytest.mark.parametrize(("name", "key", "off", "on", "state"), STATES)
def test_a_state_that_the_run_does_not_keep_is_dropped_when_that_is_accepted(name, key, off, on, state):
    old, run = saved_with(name, key, on), config(f"optimizer.name={name}", f"optimizer.{key}={off}")
    told = f"the checkpoint's state {state} is dropped"
    with pytest.raises(CheckpointError) as error:
        check_compatible(old, run, DATA, "t1")
    assert f"optimizer.{key}: {told}" in str(error.value) and f"allow_changes=[optimizer.{key}]" in str(error.value)
    accepted = check_compatible(old, run, DATA, "t1", [f"optimizer.{key}"])
    assert accepted == [f"optimizer.{key}: {on} -> {off}; {told}"]


def test_a_changed_value_of_a_kept_state_is_accepted_as_ever():
    old, run = saved_with("sgd", "momentum", "0.9"), config("optimizer.name=sgd", "optimizer.momentum=0.8")
    assert check_compatible(old, run, DATA, "t1", ["optimizer"]) == ["optimizer.momentum: 0.9 -> 0.8"]


def test_what_evaluations_alone_read_is_free():
    masked = ["model.name=bert", "objective.name=masked_pairs"]
    old = saved()
    run = config(*masked)
    old["config"] = run.model_dump(mode="json")
    old["model"] = run.model.model_dump(mode="json")
    assert find_changes(old, config(*masked, "objective.evaluation_mask_rate=0.3"), DATA, "t1") == {}
    changed = find_changes(old, config(*masked, "objective.mask_rate=0.3"), DATA, "t1")
    assert set(changed) == {"objective.mask_rate"}


def test_a_misspelt_permission_is_pointed_out():
    with pytest.raises(CheckpointError, match=r"did you mean: optimizer\.lrr -> optimizer\.lr"):
        check_compatible(saved(), config("optimizer.lr=2.0e-3"), DATA, "t1", ["optimizer.lrr"])


def test_the_beginning_of_a_name_is_no_permission():
    with pytest.raises(CheckpointError):
        check_compatible(saved(), config("optimizer.lr=2.0e-3"), DATA, "t1", ["optimizer.l", "opt"])


def test_a_key_younger_than_the_checkpoint_counts_as_its_default():
    old = saved()
    for section in (old["config"]["model"], old["model"]):
        del section["rotary_base"]
    del old["config"]["optimizer"]["epsilon"]
    assert check_compatible(old, config(), DATA, "t1") == []
    assert set(find_changes(old, config("model.rotary_base=5e5"), DATA, "t1")) == {"model.rotary_base"}
    assert set(find_changes(old, config("optimizer.epsilon=1e-6"), DATA, "t1")) == {"optimizer.epsilon"}


def test_metadata_of_something_else_is_refused_not_crashed_on():
    with pytest.raises(CheckpointError, match="saved by another run"):
        check_compatible({}, config(), DATA, "t1")


def test_a_changed_mixture_is_told_with_its_paths_and_weights_in_full():
    long = "/data/" + "a/very/deep/" * 8 + "corpus"
    other = DATA | {"train": [{"corpus": "ab12", "share": "9/14"}, {"corpus": "ef56", "share": "1/14"}]}
    other["train"].append({"corpus": "9999", "share": "4/14"})
    changed = config(f"data.train=[{{corpus: moved/a, weight: 9}}, {{corpus: b}}, {{corpus: {long}, weight: 4}}]")
    with pytest.raises(CheckpointError) as error:
        check_compatible(saved(), changed, other, "t1")
    rows = [line.rstrip() for line in str(error.value).splitlines()[1:5]]
    assert rows == [
        "  key         saved         now",
        "  data.train  a (weight 1)  moved/a (weight 9, was a)",
        "              b (weight 3)  b (weight 1, its content is another now)",
        f"                            {long} (weight 4)",
    ]
    assert "ab12" not in str(error.value) and "..." not in str(error.value)
    (line,) = check_compatible(saved(), changed, other, "t1", ["data.train"])
    assert line.startswith("data.train: a (weight 1), b (weight 3) -> moved/a (weight 9, was a), b (weight 1, its")


def test_a_long_value_is_told_in_full():
    stages = [{"from_sample": 100 * n, "rate": 0.1 + n / 100} for n in range(9)]
    masked = ["model.name=bert", "model.pooler=false", "objective.name=masked"]
    old, run = saved(), config(*masked)
    old["config"], old["model"] = run.model_dump(mode="json"), run.model.model_dump(mode="json")
    changed = run.model_copy(update={"objective": run.objective.model_copy(update={"mask_rate_schedule": stages})})
    with pytest.raises(CheckpointError) as error:
        check_compatible(old, changed, DATA, "t1")
    assert all(f"'from_sample': {100 * n}" in " ".join(str(error.value).split()) for n in range(9))
