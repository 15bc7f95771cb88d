"""What a run knows of conversations beside its weights: kept in its directory, and written with an exported model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from configs.errors import DataError
from data_prep.storage.publishing import staged_file
from finetune.chat.template import TEMPLATE_FILE

CHAT_FILE = "chat.json"
_GENERATION_FILE = "generation_config.json"


@dataclass(frozen=True)
class SavedChat:
    """The chat template of a trained model.

    Attributes:
        template: its text.
        stop: ids that end an answer.
    """

    template: str
    stop: list[int]

    def write(self, run: Path) -> None:
        """Keep it in a run's directory."""
        with staged_file(run / CHAT_FILE) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", "utf-8")

    def write_with_model(self, folder: Path) -> None:
        """Write the template beside a model of transformers, and what ends its answers into how it generates."""
        (folder / TEMPLATE_FILE).write_text(self.template, "utf-8")
        path = folder / _GENERATION_FILE
        told = json.loads(path.read_text("utf-8"))
        known = told.get("eos_token_id")
        ends = known if isinstance(known, list) else [] if known is None else [known]
        told["eos_token_id"] = list(dict.fromkeys([*ends, *self.stop]))
        path.write_text(json.dumps(told, indent=2) + "\n", "utf-8")


def saved_chat(path: Path) -> SavedChat | None:
    """What a run, or the run of a checkpoint, knows of conversations; None: it was not trained on any.

    Args:
        path: a run's directory, or one of its checkpoints.

    Raises:
        DataError: it is damaged.
    """
    found = next((each / CHAT_FILE for each in (path, path.parent.parent) if (each / CHAT_FILE).is_file()), None)
    if found is None:
        return None
    try:
        return SavedChat(**json.loads(found.read_text("utf-8")))
    except (ValueError, TypeError):
        raise DataError("is damaged", where=found, expected="a chat template, as instruct wrote it") from None
