"""A local Hugging Face directory as what a run starts from: our tensors by the rules of its family, in reverse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import DataError, MachineError
from pretrain.checkpoint.state_shards import Rectangles, as_matrix
from pretrain.models.huggingface.config_fields import RoleIds
from pretrain.models.huggingface.export_record import export_record, exported_family
from pretrain.models.huggingface.family import HuggingFaceFamily, from_config, load_family
from pretrain.models.huggingface.rules import Rule
from pretrain.models.huggingface.safetensors_files import READABLE, SafetensorsDirectory
from pretrain.models.huggingface.transformers_model import load_config

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from data_prep.tokenizer import Tokenizer

_BUFFERS = ("inv_freq", "attn.bias", "attn.masked_bias", "position_ids", "token_type_ids")
"""Endings of what older versions of transformers stored beside the weights, and compute themselves."""
_MOST_PADDED_TO = 128


class HuggingFaceSource:
    """See `StartSource`.

    Args:
        path: the directory; nothing in it is run.

    Attributes:
        fields: its complete config.
        ids: of the special tokens that it names.
        family: what describes its architecture.
        files: its tensors by transformers' names.

    Raises:
        DataError: no safetensors, a damaged directory, an architecture that our models do not have, or tensors that
            do not fit it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fields = load_config(path)
        self.ids = RoleIds.of(self.fields)
        where, model_type = path / "config.json", str(self.fields.get("model_type"))
        exported_family(path, model_type)  # refuses a module that came along with the directory
        name = export_record(path).get("family")
        model = from_config(self.fields, where, family=name)
        assert model.vocab_size is not None
        # As transformers has it: no rows beyond the vocabulary, as far as its size allows.
        self.model = model.model_copy(update={"vocab_multiple": padding_multiple(model.vocab_size)})
        self.family: HuggingFaceFamily = load_family(name or model_type)
        self.files = SafetensorsDirectory(path)
        said = self._said_by_tensors()
        self.model = self.model.model_copy(update=said)
        self._specs = {spec.name: spec for spec in self.model.parameters()}
        self._rules = {r.ours: r for r in self.family.rules(self.model, self.ids) if r.ours in self._specs}
        self._held: tuple[str, npt.NDArray[np.float32]] | None = None
        told = [f"model.{key} is true: its tensor is not zero, and is trained" for key, is_so in said.items() if is_so]
        self.notes: Sequence[str] = (*told, *self._check())

    @property
    def architecture(self) -> str:
        """Name of the transformers class, as the directory says it."""
        return str((self.fields.get("architectures") or ["model without architecture"])[0])

    def shape(self, name: str) -> tuple[int, ...] | None:
        """See `StartSource.shape`."""
        return self._specs[name].shape if name in self._rules else None

    def names(self) -> list[str]:
        """See `StartSource.names`."""
        return list(self._rules)

    def tensor(self, name: str) -> torch.Tensor:
        """One of our tensors, fp32, whole.

        Raises:
            DataError: a file cannot be read.
        """
        rule = self._rules[name]
        parts: list[torch.Tensor] = []
        for theirs in rule.theirs:
            try:
                parts.append(self.files[self._stored_name(theirs)])
            except OSError as error:
                raise DataError(f"cannot be read ({error.strerror})", where=error.filename or self.path) from None
        return rule.join(parts).contiguous()

    def fill(self, name: str, wanted: Rectangles, target: npt.NDArray[np.float32]) -> None:
        """See `StartSource.fill`; the whole tensor is read, and kept until another is asked for or `close`."""
        if self._held is None or self._held[0] != name:
            self._held = None
            self._held = name, self.tensor(name).reshape(as_matrix(self._specs[name].shape)).numpy()
        matrix = self._held[1]
        for row0, row1, column0, column1, start in wanted.tolist():
            window = target[start : start + (row1 - row0) * (column1 - column0)]
            window.reshape(row1 - row0, -1)[:] = matrix[row0:row1, column0:column1]

    def close(self) -> None:
        """See `StartSource.close`."""
        self._held = None

    def find_damage(self, rank: int, ranks: int) -> list[str]:
        """See `StartSource.find_damage`: such files have no hashes; what their headers say was compared at opening."""
        return []

    def is_same_tokenizer(self, fingerprint: str | None, tokenizer: Tokenizer | None) -> bool | None:
        """See `StartSource.is_same_tokenizer`: by fingerprint, or by vocabulary where roles were given at an import."""
        recorded = export_record(self.path).get("tokenizer_fingerprint")
        if recorded is not None or fingerprint is None:
            return None if fingerprint is None else recorded == fingerprint
        from data_prep.tokenizer import load_tokenizer

        try:
            theirs = load_tokenizer(self.path, "reference")
        except (DataError, MachineError):
            return None
        same_vocabulary = tokenizer is not None and tokenizer.vocabulary == theirs.vocabulary
        return theirs.fingerprint == fingerprint or same_vocabulary

    def content_hash(self) -> str:
        """See `StartSource.content_hash`: of the bytes of its files."""
        return self.files.content_hash()

    def record(self) -> dict[str, Any]:
        """See `StartSource.record`."""
        known = export_record(self.path)
        exported = {key: known[key] for key in ("checkpoint", "step") if key in known}
        return {
            "path": str(self.path.absolute()),
            "kind": "huggingface",
            "architecture": self.architecture,
            "tokenizer_fingerprint": known.get("tokenizer_fingerprint"),
            **({"export": exported} if exported else {}),
        }

    def _stored_name(self, theirs: str) -> str:
        found = self.files.find(theirs)
        if found is None:
            raise DataError(
                f"has no tensor {theirs}, which {type(self.family).__name__} needs (its class is {self.architecture})",
                where=self.path,
                expected=f"weights of {self.family.classes[self.family.head(self.model)]}",
            )
        return found

    def _said_by_tensors(self) -> dict[str, bool]:
        """Keys of our model that no field of their config says, such as that of BART's bias of the logits."""
        said: dict[str, bool] = {}
        for rule in self.family.rules(self.model, self.ids):
            if rule.said_by is not None:
                names = [name for theirs in rule.theirs if (name := self.files.find(theirs)) is not None]
                # One that cannot be read is refused when it is looked for.
                said[rule.said_by] = any(
                    self.files.stored[name].dtype not in READABLE or bool(self.files[name].any()) for name in names
                )
        return said

    def _check(self) -> Iterator[str]:
        """Compare names, types and shapes with the table of parameters, from the headers alone.

        Yields:
            what is left out, a sentence.
        """
        if missing := sorted(set(self._specs) - set(self._rules)):
            raise DataError(f"{self.architecture} has nothing that is our {missing[0]}", where=self.path)
        used: set[str] = set()
        for rule in self._rules.values():
            names = [self._stored_name(theirs) for theirs in rule.theirs]
            used.update(names)
            for name in names:
                if (dtype := self.files.stored[name].dtype) not in READABLE:
                    raise DataError(f"{name} is {dtype}", where=self.path, expected=", ".join(READABLE))
            shape, found = self._specs[rule.ours].shape, self._joined_shape(rule, names)
            if found != shape:
                shapes = ", ".join(f"{name} {list(self.files.stored[name].shape)}" for name in names)
                raise DataError(
                    f"{shapes}: this is not our {rule.ours} {list(shape)}",
                    where=self.path,
                    expected="the shapes that its config.json says",
                )
        left = sorted(name for name in set(self.files) - used if not name.endswith(_BUFFERS))
        if left:
            listed = ", ".join(left[:3]) + (f" and {len(left) - 3} more" if len(left) > 3 else "")
            yield f"{self.path} also holds {listed}: left out, the model has no place for it"

    def _joined_shape(self, rule: Rule, names: Sequence[str]) -> tuple[int, ...] | None:
        import torch

        try:
            parts = [torch.empty(self.files.stored[name].shape, device="meta") for name in names]
            return tuple(rule.join(parts).shape)
        except (RuntimeError, ValueError, IndexError):
            return None


class SourceTensors(Mapping[str, "torch.Tensor"]):
    """Our tensors of a Hugging Face directory by global name, each read when it is asked for."""

    def __init__(self, source: HuggingFaceSource, names: Sequence[str]) -> None:
        self._source = source
        self._names = list(names)

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._source.tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def padding_multiple(vocab_size: int) -> int:
    """The largest power of two up to 128 that divides a vocabulary: with it no row is padding."""
    multiple = _MOST_PADDED_TO
    while vocab_size % multiple:
        multiple //= 2
    return multiple
