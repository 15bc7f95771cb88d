"""What docstrings, comments and pages name exists; `written_names.py` says by which rules."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import pytest
from written_names import (
    FILE,
    FOLDER,
    NAME,
    ROOMS,
    ROOT,
    TEST,
    TICKED,
    Known,
    Written,
    known_names,
    learn,
    library_files,
    library_names,
    tracked,
    written,
)

# What exists outside the tree and the installed libraries, with where.
ELSEWHERE = {
    "preprocess_data.py": "a tool of Megatron-LM's repository, which the package megatron-core leaves out",
    "create_pretraining_data.py": "makes the samples in the repository of the BERT paper, which is no package",
    "extensions/my_kind.py": "what a reader of docs/extending.md makes",
    "runs/chinese/make.py": "what a reader of docs/chinese.md makes",
    "dupe_factor": "an option of create_pretraining_data.py",
}


def texts() -> list[Written]:
    pages = [path for path in tracked("*.py", "*.md") if path != "docs/configuration.md"]
    return [text for path in pages for text in written(path, (ROOT / path).read_text())]


def missing_files(text: Written, known: Known) -> set[str]:
    """Files, folders and tests that `text` names and that are not there."""
    tails = {path.rpartition("/")[2] for path in known.files}
    folder = Path(text.path).parent

    def is_there(path: str) -> bool:
        if path in ELSEWHERE or path in known.files or path in library_files():
            return True
        if os.path.normpath(folder / path) in known.files:
            return True
        return path in tails if "/" not in path else any(name.endswith(f"/{path}") for name in known.files)

    found = {path for path in FILE.findall(text.text) if not is_there(path)}
    found |= {name for name in TEST.findall(text.text) if name not in known.definitions | known.words}
    if not text.is_code:
        for word in ticked(text):
            if FOLDER.fullmatch(word):
                path = word.rstrip("/")
                found |= {word} if path not in known.files and f"{path}.py" not in known.files else set()
    return found


def ticked(text: Written) -> list[str]:
    """The words between backticks."""
    return [] if text.is_code else [double or single for double, single in TICKED.findall(text.text)]


def doubtful_names(text: Written, known: Known) -> dict[str, str]:
    """Names between backticks that our code does not have, each with the part that a library may define; else empty."""
    found = {}
    for word in ticked(text):
        match = NAME.fullmatch(word)
        if match is None or word.rpartition(".")[2] in ("md", "py", "sh", "json", "jsonl", "txt"):
            continue
        first, *rest = match[1].split(".")
        last = [first, *rest][-1]
        if first in known.members and rest:
            if not known.has_member(first, rest[0]):
                found[word] = ""
        elif first in ROOMS and rest:
            if not any(resolves(known, match[1].split("."), cut) for cut in range(1, len(rest) + 2)):
                found[word] = ""
        elif last not in (known.words if match[2] is None else known.definitions) and (match[2] or is_a_name(last)):
            found[word] = last
    return found


def is_a_name(word: str) -> bool:
    """Whether a word can only be a name of code: capitals and small letters mixed, or joined by underscores."""
    mixed = word != word.lower() and word != word.upper()
    return mixed or "_" in word.strip("_")


def resolves(known: Known, parts: list[str], cut: int) -> bool:
    """Whether the first `cut` parts are a module or a section of ours, and it has what follows."""
    module, rest = ".".join(parts[:cut]), parts[cut:]
    if module not in known.modules:
        return f"{'/'.join(parts)}" in known.files
    return not rest or rest[0] in known.modules[module]


def problems(found: list[Written], known: Known) -> list[str]:
    """One line for each thing that is named and not there."""
    lines, doubtful = [], defaultdict(list)
    for text in found:
        lines += [f"{text.path}:{text.line}: {name}" for name in sorted(missing_files(text, known))]
        for word, part in doubtful_names(text, known).items():
            doubtful[part].append(f"{text.path}:{text.line}: `{word}`")
    defined = library_names(set(doubtful) - {""})
    known_elsewhere = defined | set(ELSEWHERE)
    return lines + [line for part in sorted(doubtful) if part not in known_elsewhere for line in doubtful[part]]


@pytest.mark.slow
def test_what_the_texts_name_is_there() -> None:
    assert problems(texts(), known_names()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("see `Engine.pull`", "`Engine.pull`"),
        ("see `Engine.start` and `Engine.size`, `Special.anything`", ""),
        ("calls `begin_all()`", "`begin_all()`"),
        ("calls `begin()`, `dict.fromkeys` and `torch.nn.functional.scaled_dot_product_attention`", ""),
        ("a `NoSuchClassAnywhere`", "`NoSuchClassAnywhere`"),
        ("a `LlamaForCausalLM`, a `warmup_steps` of it, `--no-such-option`, `<placeholder>`, `word`", ""),
        ("`warmup_of_the_house`", "`warmup_of_the_house`"),
        ("in `pretrain.engine.absent`", "`pretrain.engine.absent`"),
        ("in `pretrain.engine.begin`", ""),
        ("tests/pretrain/test_absent.py fails", "tests/pretrain/test_absent.py"),
        ("as session.py says", "session.py"),
        ("as stage3.py, deepspeed/runtime/engine.py:12 and engine.py say", ""),
        ("see [it](../pretrain/engine.py), not [this](../pretrain/absent.py)", "../pretrain/absent.py"),
        ("`pretrain/absent/` and `pretrain/engine`", "pretrain/absent/"),
        ("test_that_is_not_written fails", "test_that_is_not_written"),
    ],
)
def test_a_false_reference_is_found(text: str, complaint: str) -> None:
    known = Known(files={"pretrain/engine.py", "pretrain/engine", "pretrain"})
    source = "import torch\nclass Engine:\n  size: int\n  def start(self): ...\nclass Special(torch.nn.Module): ...\n"
    learn(known, "pretrain/engine.py", source + "def begin(warmup_steps): ...\n")
    assert [line.split(": ")[1] for line in problems([Written("docs/x.md", 1, text)], known)] == [complaint] * bool(
        complaint
    )


def test_the_rooms_of_the_readme_are_those_of_the_tree() -> None:
    block = (ROOT / "README.md").read_text().split("## The rooms")[1].split("```")[1]
    rooms = {
        "/".join(path.split("/")[:2]) for path in tracked("data_prep/*/*.py", "pretrain/*/*.py", "finetune/*/*.py")
    }
    assert [room for room in sorted(rooms) if f"{room.rpartition('/')[2]}/" not in block] == []
    assert [room for room in ROOMS if f"{room}/" not in block] == []
