"""Reads exported directories in an environment that has transformers and none of this project; prints what differs.

    python fresh_reader.py EXPECTED.json

`fresh_environments` writes what is expected and runs this file.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "HF_DATASETS_OFFLINE": "1"}
_CLASSES = {
    "causal": "AutoModelForCausalLM",
    "masked": "AutoModelForMaskedLM",
    "classifier": "AutoModelForSequenceClassification",
}


def load_tokenizer(expected: Mapping[str, Any]) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(expected["path"])


def load_model(expected: Mapping[str, Any]) -> Any:
    import torch
    import transformers

    return getattr(transformers, _CLASSES[expected["kind"]]).from_pretrained(expected["path"]).to(torch.float32).eval()


def plain_calls(expected: Mapping[str, Any]) -> str:
    """Calls without arguments: what a user does first."""
    tokenizer = load_tokenizer(expected)
    for text, ids in expected["calls"]:
        found = tokenizer(text)
        assert found["input_ids"] == ids, f"{text!r} is {found['input_ids']}, not {ids}"
        assert sorted(found) == sorted(expected["inputs"]), f"a call returns {sorted(found)}"
    return f"{len(expected['calls'])} equal"


def special_tokens(expected: Mapping[str, Any]) -> str:
    """The spelling of a special token is one id, unless a call says that text is text."""
    tokenizer = load_tokenizer(expected)
    for text, ids, kept in expected["special"]:
        found = tokenizer(text)["input_ids"]
        assert found == ids, f"{text!r} is {found}, not {ids}"
        found = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert found == kept, f"{text!r} as text is {found}, not {kept}"
    assert tokenizer.bos_token_id == expected["begin"], f"bos_token_id is {tokenizer.bos_token_id}"
    return f"{len(expected['special'])} tokens"


def outputs(expected: Mapping[str, Any]) -> str:
    """What the model gives for what the tokenizer gives, all of it."""
    import torch
    from safetensors.torch import load_file

    model, tokenizer = load_model(expected), load_tokenizer(expected)
    largest = 0.0
    for number, logits in load_file(expected["logits"]).items():
        with torch.no_grad():
            found = model(**tokenizer(expected["calls"][int(number)][0], return_tensors="pt")).logits
        difference = float((found[0] - logits).abs().max())
        assert difference == difference, "an output is not a number"
        largest = max(largest, difference)
    assert largest <= expected["tolerance"], f"outputs differ by {largest:.1e}"
    return f"{largest:.0e}"


def greedy_text(expected: Mapping[str, Any]) -> str:
    import torch

    model, tokenizer = load_model(expected), load_tokenizer(expected)
    ids = tokenizer(expected["prompt"], return_tensors="pt")
    with torch.no_grad():
        found = model.generate(**ids, do_sample=False, max_new_tokens=len(expected["greedy"]))
    new = found[0, ids["input_ids"].shape[1] :].tolist()
    assert new == expected["greedy"], f"goes on with {new}, not {expected['greedy']}"
    with torch.no_grad():
        begin = int(model.generate(max_new_tokens=1)[0, 0])
    assert begin == expected["begin"], f"without a prompt, begins with the id {begin}"
    return f"{len(new)} equal"


def card(expected: Mapping[str, Any]) -> str:
    """The lines of the model card, as a reader runs them."""
    code = Path(expected["path"], "README.md").read_text("utf-8").partition("```python\n")[2].partition("```")[0]
    assert code, "the card shows no lines"
    os.chdir(Path(expected["path"]).parent)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(code, "README.md", "exec"), {})
    assert said.getvalue().strip(), "the card's lines print nothing"
    return "run"


def rolling_likelihood(expected: Mapping[str, Any]) -> str:
    """lm_eval's: the first token of a text is predicted from the one that begins it."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    with contextlib.redirect_stdout(io.StringIO()):
        harness = HFLM(pretrained=expected["path"], device="cpu", batch_size=1, dtype="float32")
        requests = [
            Instance(request_type="loglikelihood_rolling", doc={}, arguments=(text,), idx=0)
            for text in expected["rolling"]
        ]
        found = [float(each[0] if isinstance(each, tuple) else each)
                 for each in harness.loglikelihood_rolling(requests, disable_tqdm=True)]  # fmt: skip
    assert harness.prefix_token_id == expected["begin"], f"begins with the id {harness.prefix_token_id}"
    largest = max(abs(a - b) for a, b in zip(found, expected["rolling"].values(), strict=True))
    assert largest < 1e-3, f"likelihoods differ by {largest:.1e} nats"
    return f"{largest:.0e}"


def gguf_vocabulary(expected: Mapping[str, Any]) -> str:
    """What a converter to GGUF finds: the pieces, what begins and ends a text, that nothing is added."""
    import gguf
    from gguf.vocab import SentencePieceVocab, SpecialVocab
    from sentencepiece import SentencePieceProcessor

    path = Path(expected["path"])
    pieces = list(SentencePieceVocab(path).all_tokens())
    assert len(pieces) == expected["vocab_size"], f"{len(pieces)} pieces"
    special = SpecialVocab(path, n_vocab=expected["vocab_size"])
    named = {kind: special.special_token_ids.get(kind) for kind in ("bos", "eos")}
    assert named == {"bos": expected["begin"], "eos": expected["end"]}, f"names {named}"
    assert special.add_special_token == {"bos": False, "eos": False}, f"adds {special.add_special_token}"
    control = [number for number, (_, _, kind) in enumerate(pieces) if kind == gguf.TokenType.CONTROL]
    assert set(expected["control"]) == set(control), f"control tokens are {control}"
    reader = SentencePieceProcessor(str(path / "tokenizer.model"))
    for text, ids in expected["calls"]:
        # A literal U+2581 is a space to SentencePiece, and to readers of GGUF; ours writes its bytes.
        assert "\u2581" in text or reader.encode(text) == ids, f"{text!r} is {reader.encode(text)}, not {ids}"
    return f"{len(pieces)} pieces"


CHECKS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "plain calls": plain_calls,
    "special tokens by text": special_tokens,
    "outputs of a call": outputs,
    "greedy text": greedy_text,
    "lines of the card": card,
    "rolling likelihood": rolling_likelihood,
    "GGUF vocabulary": gguf_vocabulary,
}


def main() -> None:
    found: dict[str, Any] = {"versions": {name: version(name) for name in ("transformers", "tokenizers", "lm_eval")}}
    found["results"] = []
    for expected in json.loads(Path(sys.argv[1]).read_text("utf-8")):
        for name in expected["checks"]:
            try:
                result, is_right = CHECKS[name](expected), True
            except Exception as error:  # whatever a version does with a directory is the answer
                result, is_right = f"{type(error).__name__}: {error}".splitlines()[0], False
            found["results"].append([name, expected["name"], is_right, result])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
