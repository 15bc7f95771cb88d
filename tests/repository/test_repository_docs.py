"""The README and the pages in `docs/` show commands that work; `pages.py` says which are run and which checked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from pages import AFTER_QUICKSTART, Block, EntryCall, blocks, entry_call, links

from configs.load import find_recipe, load_config
from configs.registry import ENTRIES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Generated from the config classes, which have a test of their own.
GENERATED = {"configuration.md"}
WRITTEN = [page for page in PAGES if page.name not in GENERATED]
PROGRAMS = frozenset(
    {"cd", "cp", "deepspeed", "export", "git", "kill", "make", "mpirun", "nvidia-smi", "pip", "python"}
)
PROGRAMS |= frozenset({"salloc", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun"})
PROGRAMS |= frozenset({"source", "tail", "tensorboard", "torchrun"})
BLOCK_LIMIT_S = 600
QUICKSTART_LIMIT_S = 1200
STARTING_RECIPES = {"llama-continue"}
STEPS = 4
TEXT_BYTES = 3_000_000


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@cache
def help_text(entry: str, subcommand: str) -> str:
    start = [entry] if entry.endswith(".py") else ["-m", entry]
    command = [sys.executable, *start, *([subcommand] if subcommand else []), "--help"]
    environ = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
    return done.stdout


def problems_of(call: EntryCall) -> list[str]:
    """What does not fit in a call of one of our entries."""
    found = []
    known = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", help_text(call.entry, call.subcommand)))
    found += [f"{call.entry} {call.subcommand} has no option {o}" for o in call.options if o not in known]
    entries = [e for e in ENTRIES if e.room == call.room and e.name in (call.subcommand, call.room)]
    if not entries:
        return found
    # The settings of an evaluation change those of a checkpoint.
    recipe = call.recipe or ("gpt-tiny" if call.subcommand == "evaluate" else None)
    source = find_recipe(ROOT / recipe if "/" in recipe else recipe, call.room) if recipe else None
    if source or call.settings:
        # One that starts from other weights may leave its model to them.
        below = [find_recipe("gpt-tiny", "pretrain")] if recipe in STARTING_RECIPES else []
        load_config(entries[0].config_class(), [*below, *([source] if source else [])], call.settings)
    return found


def problems_in(block: Block) -> list[str]:
    """What does not fit in a block that is checked and not run."""
    found = []
    for words in block.commands():
        program = next((w for w in words if "=" not in w), "")
        if program and program not in PROGRAMS and not (ROOT / program).is_file():
            found.append(f"line {block.line}: unknown program {program!r}")
        found += [
            f"line {block.line}: no file {w}"
            for w in words
            if re.fullmatch(r"[\w/]+\.(sh|py)", w) and not (ROOT / w).is_file()
        ]
        call = entry_call(words)
        found += [f"line {block.line}: {problem}" for problem in problems_of(call)] if call else []
    return found


@pytest.mark.parametrize("page", WRITTEN, ids=page_id)
def test_every_fence_says_what_it_is(page: Path) -> None:
    assert [f"line {block.line}" for block in blocks(page.read_text()) if not block.language] == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    local = [t for t in links(page.read_text()) if not t.startswith(("http:", "https:", "#", "mailto:"))]
    assert [t for t in local if not (page.parent / t.partition("#")[0]).exists()] == []


@pytest.mark.parametrize("page", WRITTEN, ids=page_id)
def test_cluster_commands_name_what_exists(page: Path) -> None:
    checked = [block for block in blocks(page.read_text()) if block.language == "sh"]
    assert [problem for block in checked for problem in problems_in(block)] == []


def test_a_command_that_does_not_fit_is_found() -> None:
    bad = Block(
        "sh", "sbatch --nodes=2 cluster/jub.sh --config gpt-tiny\npython -m cluster preflight --prot 5\nrun me\n", 7
    )
    assert problems_in(bad) == [
        "line 7: no file cluster/jub.sh",
        "line 7: cluster preflight has no option --prot",
        "line 7: unknown program 'run'",
    ]


def test_fences_and_calls_are_read() -> None:
    checked = "A=1 srun x/y pretrain/main.py --config=llama-7b \\\n    a.b=[1,2]  # why"
    text = f"a\n```bash\none\n```\n- item\n  ```sh\n  {checked}\n  ```\n"
    first, second = blocks(text)
    assert (first.language, first.text, first.line) == ("bash", "one\n", 3)
    assert (second.language, second.line) == ("sh", 7)
    (words,) = second.commands()
    assert entry_call(words) == EntryCall("pretrain/main.py", "", "llama-7b", ("a.b=[1,2]",), ("--config",))
    assert entry_call(["python", "-m", "finetune", "export", "-c", "x"]) == EntryCall(
        "finetune", "export", "x", (), ("-c",)
    )
    assert entry_call(["python", "pretrain/main.py", "evaluate", "runs/a", "a.b=1", "--test"]) == EntryCall(
        "pretrain/main.py", "evaluate", None, ("a.b=1",), ("--test",)
    )
    assert entry_call(["make", "test"]) is None


class Workspace:
    """A copy of the repository whose commands run in this Python's environment."""

    def __init__(self, root: Path) -> None:
        self.root = root
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, root / name)
        # make takes it for an installed environment and installs nothing, neither here nor over the real one.
        venv = root / ".venv"
        venv.mkdir()
        for part in ("bin", "lib", "pyvenv.cfg"):
            (venv / part).symlink_to(Path(sys.prefix) / part)
        for stamp in (".with-finetune", ".for-developers"):
            (venv / stamp).touch()
        self.environ = {n: v for n, v in os.environ.items() if not n.startswith(("MAKE", "MFLAGS", "PYTEST_"))}
        # The editable install leads to the original: the copy comes first.
        self.environ |= {"PYTHONPATH": str(root), "PATH": f"{venv}/bin:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}

    def run(self, script: str, limit_s: float = BLOCK_LIMIT_S) -> tuple[int, str]:
        """Status and output of a bash script in the copy."""
        command = ["bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
        )
        return done.returncode, done.stdout


@pytest.fixture(scope="session")
def quickstart_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `runs` as `make quickstart` leaves it on a machine that shows a GPU."""
    workspace = Workspace(tmp_path_factory.mktemp("quickstart"))
    workspace.environ["PYTHONPATH"] = f"{workspace.root / 'tests' / 'cuda_stand_in'}:{workspace.root}"
    status, output = workspace.run(f"make quickstart STEPS=20 TEXT_BYTES={TEXT_BYTES}", QUICKSTART_LIMIT_S)
    assert status == 0 and "step 20/20" in output and "step 10/20" in output, output[-4000:]
    return workspace.root / "runs"


def as_run(script: str) -> str:
    """A block as the test runs it: the tests do not run themselves, and the quickstart has run before the page.

    What is tested are the commands: a training has fewer steps than the page says, the sample corpus is smaller.
    """
    lines = []
    for line in script.splitlines():
        line = re.sub(r"(training\.duration=\"|\"training\.duration=)\d+ steps\"", rf'\g<1>{STEPS} steps"', line)
        if "sample-corpus" in line and "--max-bytes" not in line:
            line += f" --min-bytes 1 --max-bytes {TEXT_BYTES}"
        if match := re.match(r"\s*make (test\S*|quickstart|clean|docs)\b", line):
            # 0 or 1 where the target exists, 2 where there is no rule for it.
            line = f"make --question {match.group(1)} >/dev/null 2>&1 || test $? -eq 1"
        lines.append(line)
    return "\n".join(lines)


def run_blocks(page: Path) -> list[Block]:
    return [block for block in blocks(page.read_text()) if block.language == "bash"]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in WRITTEN if run_blocks(page)], ids=page_id)
def test_commands_run(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    workspace = Workspace(tmp_path)
    to_run = run_blocks(page)
    if AFTER_QUICKSTART in page.read_text() or any("make quickstart" in block.text for block in to_run):
        shutil.copytree(request.getfixturevalue("quickstart_runs"), tmp_path / "runs")
    for block in blocks(page.read_text()):
        if block.file:
            (tmp_path / block.file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / block.file).write_text(block.text)
    for block in to_run:
        status, output = workspace.run(as_run(block.text))
        assert status == 0, f"{page_id(page)} line {block.line}, status {status}:\n{block.text}\n{output[-4000:]}"


def test_a_page_is_run_with_fewer_steps_and_less_text() -> None:
    page = 'train training.duration="20 steps" a=1\nclassify "training.duration=300 steps"\ntrain "2 epochs"'
    assert (
        as_run(page) == 'train training.duration="4 steps" a=1\nclassify "training.duration=4 steps"\ntrain "2 epochs"'
    )
    assert as_run("sample-corpus --output x") == f"sample-corpus --output x --min-bytes 1 --max-bytes {TEXT_BYTES}"
    assert as_run("sample-corpus --max-bytes 5") == "sample-corpus --max-bytes 5"


def test_targets_that_do_not_exist_fail(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert workspace.run(as_run("make test"))[0] == 0
    assert workspace.run(as_run("make tests-of-all"))[0] != 0
