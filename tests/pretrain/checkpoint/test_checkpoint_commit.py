"""What a kill leaves between the renames of a commit."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from pretrain.checkpoint.directory import clean_up, list_checkpoints, newest_checkpoint, publish, step_name


def complete(root: Path, name: str) -> None:
    (root / name).mkdir(parents=True)
    (root / name / "manifest.json").write_text("{}")


@pytest.mark.parametrize("renames", range(5))
def test_a_kill_at_any_rename_leaves_the_new_checkpoint_newest_or_nothing_of_it(tmp_path, monkeypatch, renames):
    """A run that went back to step 10 saves step 20, where steps 20 and 30 of the course that it left still lie."""
    for name in ("step_00000010", "step_00000020", "step_00000030", ".tmp-00000020-abc123"):
        complete(tmp_path, name)
    (tmp_path / ".tmp-00000020-abc123" / "new").touch()
    sound, done = Path.rename, []

    class Killed(BaseException):
        pass

    def rename(self, target):
        if len(done) == renames:
            raise Killed
        done.append(target)
        return sound(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with contextlib.suppress(Killed):
        publish(tmp_path / ".tmp-00000020-abc123", 20)
    monkeypatch.undo()
    before = newest_checkpoint(tmp_path)
    new = {path for _, path in list_checkpoints(tmp_path) if (path / "new").exists()}
    assert (renames >= 3) == (new == {before})
    assert before.name == [step_name(30), step_name(20)][renames > 0] or new
    clean_up(tmp_path)
    assert newest_checkpoint(tmp_path).joinpath("new").exists() == bool(new)
    assert len(list(tmp_path.glob("step_*"))) == 3 + (renames >= 2), "nothing that was complete is lost"
