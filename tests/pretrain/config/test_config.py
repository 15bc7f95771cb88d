"""What a run's config refuses by itself, before a corpus or a rank is looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from configs.errors import ConfigError
from configs.kinds import Kinds
from pretrain.config import DataConfig, ModelConfig, RunConfig
from pretrain.config.kinds import FAMILIES, OBJECTIVES
from tests.pretrain.tiny_run import BERT, tiny_config


def config(**changes: Any) -> RunConfig:
    return tiny_config(Path("run"), Path("corpus"), **changes)


def refusal(**changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        config(**changes)
    return caught.value.render()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data__validation": "{test: other}"}, "two sets are called 'test' (the default name of the test set)"),
        ({"data__test": "{validation: a}"}, "'validation' (the default name of the validation set)"),
        (
            {"data__validation": "{a: x, b: y}", "data__test": "{b: z}"},
            "two sets are called 'b' (in data.validation and in data.test)",
        ),
    ],
)
def test_two_sets_of_one_name_are_refused(changes: dict[str, Any], says: str) -> None:
    assert says in refusal(**changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (BERT | {"data__reset_attention_at_documents": "true"}, "data.reset_attention_at_documents: is true"),
        ({"training__batch_ramp": "{start: 40, increment: 4, samples: 100}"}, "batch_ramp.start is 40, above"),
        (
            {"optimizer__schedule": "constant", "optimizer__decay": "5 steps"},
            "optimizer.schedule=constant has no decay",
        ),
        (
            {"optimizer__warmup": "5 steps", "optimizer__decay": "1k samples"},
            "expected all in steps, or all in samples",
        ),
        ({"optimizer__wsd_decay": "sqrt"}, "wsd_decay is sqrt, and optimizer.schedule is cosine"),
        ({"optimizer__weight_decay_schedule": "cosine"}, "optimizer.final_weight_decay is null: the decay stays"),
        (
            {"optimizer__warmup_shape": "constant", "optimizer__warmup": "0 steps"},
            "optimizer.warmup_shape is constant, and optimizer.warmup is 0 steps",
        ),
        (
            {"optimizer__warmup_shape": "constant", "optimizer__schedule": "constant"},
            "optimizer.warmup_shape is constant, and optimizer.schedule is constant",
        ),
        (
            {"optimizer__restart_at": "4 steps", "optimizer__schedule": "constant", "optimizer__warmup": "0 steps"},
            "optimizer.restart_at is 4 steps, and there is nothing to restart",
        ),
        ({"optimizer__restart_at": "12 steps"}, "restart_at is 12 steps, and training.duration 12 steps: nothing is"),
        (
            {"optimizer__restart_at": "64 samples"},
            "optimizer.warmup is 4 steps and optimizer.restart_at is 64 samples; expected all in steps",
        ),
        (
            {"checkpoint__branch_from": "a", "start_from": "b"},
            "checkpoint.branch_from is a, and start_from is b: a branch goes on with the weights of its run",
        ),
        ({"checkpoint__branch_from": "run/checkpoints/step_00000003"}, "which lies in output (run)"),
        ({"parallel__zero_overlap": "true"}, "needs parallel.zero_stage 2 or 3 (found 1)"),
        ({"parallel__communication_precision": "fp16"}, "is neither fp32 nor training.precision fp32"),
        ({"parallel__offload_optimizer": "true", "parallel__zero_stage": 0}, "parallel.zero_stage 1, 2 or 3 (found 0)"),
        ({"parallel__sequence_parallel": "true"}, "parallel.tensor_size above 1 (found 1)"),
        (
            {
                "model__name": "t5",
                "objective__name": "mixture",
                "objective__parts": "{a: {objective: {name: text_infilling}}, b: {objective: {name: span_corruption}}}",
            },
            "text_infilling with permute_sentences=false",
        ),
    ],
)
def test_keys_that_contradict_each_other_are_refused_when_they_are_read(changes: dict[str, Any], says: str) -> None:
    assert says in refusal(**changes)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("data__train", "{a: 0.5}", "names no corpus; expected {corpus, weight}, such as [{corpus: a, weight: 0.5}]"),
        ("data__train", "5", "expected a list for data.train, such as [{corpus: runs/corpus, weight: 0.5}]"),
        ("data__validation", "5", "expected names with values, such as {NAME: [{corpus: runs/corpus, weight: 0.5}]}"),
        ("data__split", "3", "data.split = 3: expected a list of 3 values, such as [0.98, 0.01, 0.01]"),
        ("data__split", "[1, 2]", "data.split = [1, 2]: expected a list of 3 values, such as [0.98, 0.01, 0.01]"),
        ("training__batch_ramp", "3", "expected keys with values, such as {start: 32, increment: 32, samples: 100000}"),
        ("model", "gpt", "model = 'gpt': expected keys with values; did you mean model.name=gpt?"),
        ("data__tokenizer", "3", "data.tokenizer = 3: expected a path"),
    ],
)  # fmt: skip
def test_a_value_of_another_sort_is_answered_with_an_example(key: str, value: str, says: str) -> None:
    said = refusal(**{key: value})
    assert says in said and "object at" not in said and "instance of" not in said


def test_a_key_inside_something_misread_shows_no_value_that_was_never_given() -> None:
    said = refusal(data__validation="{a: {corpus: x, b: 1}}")
    assert "unknown key data.validation.a.0.b" in said and "object at" not in said


def test_a_set_without_a_name_gets_that_of_its_part() -> None:
    run = config(data__validation="held-out", data__test="[{corpus: a, weight: 2.0}, b]")
    assert [str(part.corpus) for part in run.data.validation["validation"]] == ["held-out"]
    assert [(str(part.corpus), part.weight) for part in run.data.test["test"]] == [("a", 2.0), ("b", 1.0)]


@pytest.mark.parametrize("entry", ["{corpus: held-out}", "{corpus: held-out, weight: 1.0}"])
def test_the_fields_of_one_corpus_are_a_corpus_not_a_set_of_that_name(entry: str) -> None:
    data = config(data__train="{corpus: a}", data__validation=entry, data__test=entry).data
    for name, sets in (("validation", data.validation), ("test", data.test)):
        assert {key: [str(part.corpus) for part in parts] for key, parts in sets.items()} == {name: ["held-out"]}
    # A set that is to be called so has a list, and so has one in what a checkpoint holds.
    named = config(data__validation="{corpus: [held-out]}").data
    assert named.validation.keys() == {"corpus"}
    assert DataConfig.model_validate(named.model_dump(mode="json")) == named


@pytest.mark.parametrize("given", ["4h", "3 epochs"])
def test_a_length_that_the_schedule_cannot_count_is_refused_at_once(given: str) -> None:
    assert "expected steps, samples or tokens, such as '1000 steps'" in refusal(training__duration=given)


def test_a_name_is_free_where_the_default_set_does_not_exist() -> None:
    assert config(data__validation="{test: a}", data__split="[0.9,0.1,0]").data.validation.keys() == {"test"}
    assert config(data__validation="{test: a}", data__test="{validation: a}").data.test.keys() == {"validation"}
    assert config(data__validation="{validation: a}", data__test="{test: a}")


@pytest.mark.parametrize("name", ["", " ", "a/b", "a\\b", " a", "a\n", "\t"])
@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_set_without_a_usable_name_is_refused(part: str, name: str) -> None:
    raw = config().model_dump(mode="json")
    raw["data"][part] = {name: "corpus"}
    with pytest.raises(ValueError, match="cannot be the name of a set"):
        RunConfig.model_validate(raw)


def test_the_message_about_a_name_says_where_it_stands() -> None:
    said = refusal(data__validation="{'': other}")
    assert said.startswith("command line: data.validation: '' cannot be the name of a set; expected visible characters")
    assert config(data__validation="{wiki-2.de größer: other}")


@pytest.mark.parametrize(
    ("interval", "keep_every", "says"),
    [
        (
            "3 steps",
            "4 steps",
            "only one in 12 steps would be kept; expected a multiple of interval, such as 3 steps or 6",
        ),
        ("6 steps", "3 steps", "only one in 6 steps would be kept; expected a multiple of interval, such as 6 steps"),
    ],
)
def test_checkpoints_to_keep_that_are_never_saved_are_refused(interval: str, keep_every: str, says: str) -> None:
    said = refusal(checkpoint__interval=interval, checkpoint__keep_every=keep_every)
    assert f"keep_every is {keep_every}, but a checkpoint is saved every {interval}" in said and says in said


def test_checkpoints_to_keep_that_are_saved_by_chance_are_noted() -> None:
    assert config(checkpoint__interval="3 steps", checkpoint__keep_every="9 steps").checkpoint.notes() == []
    assert config(checkpoint__interval="30 min").checkpoint.notes() == []
    (by_time,) = config(checkpoint__interval="30 min", checkpoint__keep_every="9 steps").checkpoint.notes()
    assert "by chance only" in by_time and "by time, every 1800 seconds" in by_time
    (at_end,) = config(checkpoint__interval="null", checkpoint__keep_every="9 steps").checkpoint.notes()
    assert "only at the end and on a signal" in at_end


@pytest.mark.parametrize("port", [0, 6006])
def test_a_tensorboard_that_is_not_written_is_not_served(port: int) -> None:
    said = refusal(monitor__serve_tensorboard=port, monitor__tensorboard="false")
    assert f"monitor: serve_tensorboard is {port}, but tensorboard is false: there is nothing to serve" in said
    assert config(monitor__serve_tensorboard=port, monitor__tensorboard="true")


@pytest.mark.parametrize(
    ("kinds", "target", "lacking"),
    [
        (FAMILIES, "pretrain.models.transformer_config:TransformerModelConfig", "parameters"),
        (FAMILIES, "pretrain.models.encoder_decoder.config:EncoderDecoderConfig", "stds"),
        (OBJECTIVES, "pretrain.config.objective:ObjectiveConfig", "sampling"),
    ],
)
def test_a_declaration_that_leaves_out_what_each_has_to_say_is_refused(kinds: Kinds, target: str, lacking: str) -> None:
    with pytest.raises(ValueError, match=f"leaves out {lacking}, which each has to say"):
        kinds.declaration(target)


@pytest.mark.parametrize("name", FAMILIES.targets)
def test_every_family_says_which_keys_no_weight_depends_on(name: str) -> None:
    cls = FAMILIES.declaration(name)
    assert issubclass(cls, ModelConfig)
    free = cls.drawing_keys | cls.dropout_keys
    assert free == {key for key in cls.model_fields if key.startswith("init_") or key.endswith("dropout")}
