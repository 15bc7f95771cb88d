"""A whole run: trained, killed and resumed, exported with its template; transformers reads and generates with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ExitStatus
from finetune.chat.run import MODEL_FOLDER, instruct
from tests.distributed import run_ranks
from tests.entry_process import run_entry
from tests.finetune.chat.chat_texts import instruct_config, write_source
from tests.pretrain.engine.layout_cases import SESSION
from tests.pretrain.tiny_run import states_differ, train_records

ROOT = Path(__file__).parents[3]


def run_on_rank(root: str, name: str, changes: dict[str, Any]) -> tuple[int, list[str]]:
    """What one rank does."""
    lines: list[str] = []
    return int(instruct(instruct_config(Path(root), name, **changes), lines.append)), lines


@pytest.mark.slow
def test_a_run_resumes_bitwise_and_ends_with_a_model_that_chats(tmp_path: Path) -> None:
    write_source(tmp_path)
    (whole,) = run_ranks(
        run_on_rank, 1, str(tmp_path), "whole", {}, process_group=False, preload=SESSION, timeout_s=300
    )
    assert whole[0] == ExitStatus.OK
    assert "apply_chat_template gives the trained ids of 4 conversations" in whole[1][-1]
    stopped: dict[str, Any] = {"training__session_limit": "3 steps", "export_dtype": None}
    for changes, status in ((stopped, ExitStatus.INTERRUPTED), ({"export_dtype": None}, ExitStatus.OK)):
        found = run_ranks(
            run_on_rank, 1, str(tmp_path), "parts", changes, process_group=False, preload=SESSION, timeout_s=300
        )
        assert found[0][0] == status
    assert not (tmp_path / "parts" / MODEL_FOLDER).exists()
    records = [train_records(tmp_path / name) for name in ("whole", "parts")]
    assert records[0] == records[1] and len(records[0]) > 4
    assert records[0][-1]["loss"] < records[0][0]["loss"]
    newest = [sorted((tmp_path / name / "checkpoints").glob("step_*"))[-1] for name in ("whole", "parts")]
    assert states_differ(*newest) == []

    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "whole" / MODEL_FOLDER
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert model.generation_config.eos_token_id == [tokenizer.eos_token_id, end]
    messages = [{"role": "user", "content": "What is list 0 0?"}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=12, do_sample=False)
    assert answer.shape[1] > prompt["input_ids"].shape[1]
    chat = json.loads((tmp_path / "whole" / "chat.json").read_text())
    assert chat["stop"] == [end] and chat["template"] == tokenizer.chat_template
    _goes_on_from_the_model(tmp_path, folder)


def _goes_on_from_the_model(root: Path, model: Path) -> None:
    """As a script, from a Hugging Face directory that has the template and its tokens already."""
    given = [f"data.train={root / 'chats.jsonl'}", "training.duration=1 steps", "training.precision=fp32"]
    given += ["training.micro_batch_size=1", "training.global_batch_size=2", "training.device=cpu"]
    given += ["evaluation.batches=1", "monitor.peak_tflops=1.0", "chat.template=own"]
    where = ["--model", str(model), "--output", str(root / "again")]
    script = ["finetune/instruct.py", *where, *given]
    shown = run_entry([*script, "--show-example", "1"], cwd=ROOT, preload=SESSION, timeout_s=300)
    assert shown.returncode == 0, shown.stderr
    assert "<|im_end|>421* " in shown.stdout and "<|im_start|>420 " in shown.stdout
    assert "class='t a s'" in (root / "again" / "examples.html").read_text()
    done = run_entry(script, cwd=ROOT, preload=SESSION, timeout_s=300)
    assert done.returncode == 0, done.stderr
    assert "chat template: the model's own" in done.stdout and "added" not in done.stdout
    assert (root / "again" / MODEL_FOLDER / "chat_template.jinja").read_text() == (
        model / "chat_template.jinja"
    ).read_text()


@pytest.mark.slow
def test_the_loss_is_the_same_packed_alone_and_in_layouts(tmp_path: Path) -> None:
    write_source(tmp_path)
    one_step: dict[str, Any] = {
        "training__duration": "1 steps",
        "data__validation_share": 0.0,
        "export_dtype": None,
        "data__max_conversations": 24,
        "evaluation__batches": 1,
    }
    # Conversations of one step are all that there are: the same, however many samples they stand in.
    alone = one_step | {"objective__packing": False, "training__global_batch_size": 24, "training__micro_batch_size": 3}
    ways = [alone, alone | {"training__micro_batch_size": 1}]
    losses = []
    for number, changes in enumerate(ways):
        run_ranks(
            run_on_rank, 1, str(tmp_path), f"way{number}", changes, process_group=False, preload=SESSION, timeout_s=300
        )
        losses.append(train_records(tmp_path / f"way{number}")[0]["loss"])
    samples = _samples(tmp_path / "way0")
    packed = one_step | {"training__global_batch_size": samples}
    layouts = ((packed, 1), (packed | {"parallel__tensor_size": 2, "parallel__zero_stage": 1}, 2))
    for number, (changes, ranks) in enumerate(layouts):
        run_ranks(
            run_on_rank,
            ranks,
            str(tmp_path),
            f"packed{number}",
            changes,
            process_group=False,
            preload=SESSION,
            timeout_s=300,
        )
        losses.append(train_records(tmp_path / f"packed{number}")[0]["loss"])
    assert all(abs(loss - losses[0]) < 1e-5 * losses[0] for loss in losses), losses


def _samples(run: Path) -> int:
    """Samples that the prepared conversations of a run are packed into."""
    from data_prep.corpus import Corpus
    from pretrain.config.sampling import CONVERSATIONS, ConversationCutting
    from pretrain.data.conversations import Conversations
    from pretrain.data.documents import Documents

    corpus = Corpus.open(next((run / "conversations").glob("*/train")))
    documents = Documents(corpus, "train", (1.0, 0.0, 0.0), run / "index")
    cutting = ConversationCutting(CONVERSATIONS, 128, marks_documents=True)
    return Conversations(corpus, documents, cutting, 1234, endless=True).num_samples_per_epoch
