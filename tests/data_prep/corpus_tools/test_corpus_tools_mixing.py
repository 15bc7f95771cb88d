from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import ConfigError, DataError
from configs.load import load_config
from data_prep.corpus.shard_writer import ShardWriter
from data_prep.corpus.split import part_of_documents
from data_prep.corpus_tools.mixing import (
    Available,
    MixConfig,
    data_section,
    describe_mixture,
    measure_corpora,
    parse_corpus,
    plan_mixture,
    write_section,
)


def mix(budget: object, *sources: dict, **values: object) -> MixConfig:
    return MixConfig.model_validate({"budget": budget, "corpora": list(sources), **values})


def available(*tokens: int) -> list[Available]:
    return [Available(Path(f"c{number}"), count, 1) for number, count in enumerate(tokens)]


def source(number: int, **values: object) -> dict:
    return {"corpus": f"c{number}", **values}


def write(path: Path, documents: int, seed: int) -> Path:
    generator = np.random.default_rng(seed)
    with ShardWriter(path, np.dtype("<u2")) as writer:
        for _ in range(documents):
            writer.add_document(generator.integers(3, 90, 40).astype("<u2"))
    return path


def test_a_budget_is_shared_by_size_or_weight():
    plan = plan_mixture(mix(300, source(0), source(1)), available(100, 200))
    assert [drawn.tokens for drawn in plan] == [100, 200] and [drawn.epochs for drawn in plan] == [1, 1]
    plan = plan_mixture(mix(300, source(0, weight=0.5), source(1, weight=1)), available(100, 1000))
    assert [drawn.tokens for drawn in plan] == [100, 200] and plan[1].epochs == 0.2
    plan = plan_mixture(mix(300, source(0), source(1), alpha=0), available(100, 200))
    assert [drawn.tokens for drawn in plan] == [150, 150]
    plan = plan_mixture(mix(300, source(0), source(1), alpha=0.5), available(100, 400))
    assert [drawn.tokens for drawn in plan] == pytest.approx([100, 200])


def test_what_a_limited_source_cannot_give_goes_to_the_others_in_proportion():
    sources = [source(0, weight=2, max_epochs=1), source(1, weight=1), source(2, weight=1, max_epochs=5)]
    plan = plan_mixture(mix(1000, *sources), available(100, 10_000, 1000))
    # 100 are all that c0 has; the other 900 are halved.
    assert [drawn.tokens for drawn in plan] == [100, 450, 450]
    assert [drawn.capped for drawn in plan] == [True, False, False]
    # One limit after the other: what c0 leaves brings c2 to its own.
    plan = plan_mixture(mix(1000, *sources), available(100, 10_000, 80))
    assert [drawn.tokens for drawn in plan] == [100, 500, 400]


@settings(max_examples=200, deadline=None)
@given(
    tokens=st.lists(st.integers(1, 10**6), min_size=1, max_size=6),
    weights=st.lists(st.floats(0.01, 10), min_size=6, max_size=6),
    caps=st.lists(st.one_of(st.none(), st.floats(0.1, 8)), min_size=6, max_size=6),
    budget=st.integers(1, 10**7),
)
def test_every_plan_fills_the_budget_within_the_limits(tokens, weights, caps, budget):
    sources = [source(n, weight=weights[n], max_epochs=caps[n]) for n in range(len(tokens))]
    config = mix(budget, *sources)
    limits = [np.inf if caps[n] is None else caps[n] * count for n, count in enumerate(tokens)]
    if sum(limits) < budget:
        with pytest.raises(ConfigError, match=f"at most {int(sum(limits)):,} tokens"):
            plan_mixture(config, available(*tokens))
        return
    plan = plan_mixture(config, available(*tokens))
    assert sum(drawn.tokens for drawn in plan) == pytest.approx(budget)
    assert all(drawn.tokens <= limit * (1 + 1e-9) for drawn, limit in zip(plan, limits))
    free = [(drawn.tokens / weights[n]) for n, drawn in enumerate(plan) if not drawn.capped]
    assert free == pytest.approx([free[0]] * len(free) if free else [])
    # A limited source would otherwise give more than the others do for their weight.
    most = max(free, default=np.inf) * (1 + 1e-9)
    assert all(drawn.tokens / weights[n] <= most for n, drawn in enumerate(plan) if drawn.capped)


def test_many_epochs_are_warned_of():
    config = mix(1000, source(0), source(1))
    text = "\n".join(describe_mixture(config, plan_mixture(config, available(100, 100))))
    assert text.count("warning") == 2 and "c0 is read 5.0 times" in text and "Muennighoff et al. 2023" in text
    config = mix(400, source(0))
    assert "warning" not in "\n".join(describe_mixture(config, plan_mixture(config, available(100))))


def test_the_training_part_is_measured(tmp_path):
    paths = [write(tmp_path / name, count, 0) for name, count in (("a", 300), ("b", 200))]
    found = measure_corpora(mix(9, *({"corpus": str(path)} for path in paths), split=(0.5, 0.25, 0.25)))
    for measured, count in zip(found, (300, 200)):
        documents = int((part_of_documents(np.arange(count), (0.5, 0.25, 0.25)) == 0).sum())
        assert (measured.documents, measured.tokens) == (documents, 40 * documents)


def test_pretraining_draws_what_the_plan_says(tmp_path):
    from pretrain.config import RunConfig
    from pretrain.data.run_data import RunData

    paths = [write(tmp_path / name, count, seed) for seed, (name, count) in enumerate((("a", 60), ("b", 400)))]
    sources = [{"corpus": str(paths[0]), "weight": 0.7, "max_epochs": 2.5}, {"corpus": str(paths[1]), "weight": 0.3}]
    config = mix("20k tokens", *sources, split=(0.9, 0.05, 0.05))
    plan = plan_mixture(config, measure_corpora(config))
    assert plan[0].capped and plan[0].epochs == pytest.approx(2.5)
    write_section(config, plan, tmp_path / "data.yaml")
    written = yaml.safe_load((tmp_path / "data.yaml").read_text())
    assert written == {"data": data_section(config, plan), "training": {"duration": "20000 tokens"}}
    rest = {
        "output": str(tmp_path / "run"),
        "model": {"num_layers": 1, "hidden_size": 8, "num_attention_heads": 1, "seq_length": 10, "vocab_size": 100},
        "training": {"duration": "1 steps", "micro_batch_size": 1, "global_batch_size": 8},
        "optimizer": {"lr": 1e-3},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(rest))
    run = load_config(RunConfig, [tmp_path / "run.yaml", tmp_path / "data.yaml"])
    assert run.training.duration == config.budget
    data = RunData.open(run, tokenizer_required=False)
    positions, _ = data.train.blend.locate(np.arange(20_000 // 10))
    drawn_tokens = 10 * np.bincount(positions)
    assert drawn_tokens.tolist() == pytest.approx([drawn.tokens for drawn in plan], abs=20)
    for part, drawn in zip(data.train.parts, plan):
        assert part.documents.num_tokens == drawn.available.tokens


def test_a_file_that_is_not_ours_is_kept(tmp_path):
    config = mix(100, source(0))
    plan = plan_mixture(config, available(100))
    (tmp_path / "mine.yaml").write_text("a: 1\n")
    with pytest.raises(DataError, match="exists and was not written by mix"):
        write_section(config, plan, tmp_path / "mine.yaml")
    assert (tmp_path / "mine.yaml").read_text() == "a: 1\n"
    write_section(config, plan, tmp_path / "ours.yaml")
    write_section(config, plan, tmp_path / "ours.yaml")


def test_the_written_file_holds_wherever_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = MixConfig.model_validate({"budget": "1k tokens", "corpora": [{"corpus": "a"}, {"corpus": "../b"}]})
    plan = plan_mixture(config, [Available(mixed.corpus, 1000, 10) for mixed in config.corpora])
    write_section(config, plan, Path("data.yaml"))
    written = yaml.safe_load((tmp_path / "data.yaml").read_text())["data"]["train"]
    assert [entry["corpus"] for entry in written] == [str(tmp_path / "a"), str(tmp_path / "../b")]


def test_sources_are_read():
    assert parse_corpus("runs/a") == {"corpus": "runs/a"} == parse_corpus("corpus=runs/a")
    assert parse_corpus("corpus=a b,weight=0.3,max_epochs=4") == {"corpus": "a b", "weight": "0.3", "max_epochs": "4"}
    for text, problem in {
        "corpus=a,wieght=1": "'wieght=1' is not a setting of a corpus",
        "a,b": "'b' is not a setting",
        "corpus=a,corpus=b": "corpus is given twice",
        "": "is not a setting",
        "corpus=": "is not a setting",
    }.items():
        with pytest.raises(ConfigError, match=problem):
            parse_corpus(text)
    with pytest.raises(ConfigError, match="did you mean: weight"):
        parse_corpus("corpus=a,wieght=1")


@pytest.mark.parametrize("budget", ["20B", "20B tokens", 20_000_000_000, "20_000_000_000", "20000M"])
def test_a_budget_is_a_number_of_tokens(budget):
    assert mix(budget, source(0)).budget.value == 20_000_000_000


BAD = {
    "not a number": ({"budget": "much", "corpora": [source(0)]}, "'much tokens' is not a duration"),
    "another unit": ({"budget": "4h", "corpora": [source(0)]}, "is in seconds; expected tokens"),
    "nothing": ({"budget": 0, "corpora": [source(0)]}, "is no length"),
    "no source": ({"budget": 1, "corpora": []}, "expected a list, such as"),
    "some weights": ({"budget": 1, "corpora": [source(0), source(1, weight=1)]}, "c0 has no weight, others have"),
    "negative weight": ({"budget": 1, "corpora": [source(0, weight=-1)]}, "greater than 0"),
    "alpha and weights": ({"budget": 1, "corpora": [source(0, weight=1)], "alpha": 0.5}, "only without weights"),
    "split": ({"budget": 1, "corpora": [source(0)], "split": [0.5, 0.1, 0.1]}, "sum to 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_plan_is_refused(case, tmp_path):
    values, problem = BAD[case]
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=problem):
        load_config(MixConfig, tmp_path / "m.yaml")


def test_sources_that_do_not_fit_together_are_refused(tmp_path, tokenizer_path):
    a = write(tmp_path / "a", 10, 0)
    with pytest.raises(DataError, match="there is no such corpus"):
        measure_corpora(mix(9, {"corpus": str(tmp_path / "none")}))
    with pytest.raises(ConfigError, match="names the same corpus twice"):
        measure_corpora(mix(9, {"corpus": str(a)}, {"corpus": str(a)}))
    write(tmp_path / "empty", 0, 0)
    with pytest.raises(DataError, match="has no documents that train"):
        measure_corpora(mix(9, {"corpus": str(tmp_path / "empty")}))
    from sentence_corpora import write_corpus

    for name in ("x", "y"):
        write_corpus(tmp_path / name, tokenizer_path, [[[name]] * 5])
    manifest = tmp_path / "y" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"tokenizer_fingerprint": "', '"tokenizer_fingerprint": "0'))
    with pytest.raises(DataError, match="the same id means different text"):
        measure_corpora(mix(9, {"corpus": str(tmp_path / "x")}, {"corpus": str(tmp_path / "y")}))
