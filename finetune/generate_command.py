"""`python -m finetune generate`: prompts from anywhere, answers on the console or as JSON lines."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs.errors import ConfigError
from configs.paths import input_path, output_path
from data_prep.storage.publishing import staged_file
from finetune.prompts import Prompt, answer_line, check_answers_file, read_prompts
from finetune.utf8 import refuse_undecodable

if TYPE_CHECKING:
    from finetune.sampling import Generated

_BETWEEN = "-" * 20
_Model = Annotated[
    Path,
    typer.Option(
        "--model", "-m", metavar="PATH", parser=input_path, help="A run's output directory, or an exported model."
    ),
]
_PromptFile = Annotated[
    Path | None,
    typer.Option(metavar="PATH", parser=input_path, help="Prompts, one a line (or .jsonl); - is standard input."),
]
_AnswersFile = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="PATH", parser=output_path, help="A .jsonl file for the answers."),
]


def generate_command(
    model: _Model,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", "-p", help="Text to go on with; repeatable.")] = None,
    prompt_file: _PromptFile = None,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Answers as JSON lines, and prompts on standard input, too.")
    ] = False,
    output: _AnswersFile = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that file.")] = False,
    samples: Annotated[int, typer.Option(help="Answers to each prompt.")] = 1,
    batch_size: Annotated[int, typer.Option(help="Answers written at a time; changes none of them.")] = 16,
    stream: Annotated[bool, typer.Option("--stream", help="Show each answer while it is written.")] = False,
    stop: Annotated[list[str] | None, typer.Option(help="An answer ends before this text; repeatable.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens after the prompt, at most.")] = 100,
    temperature: Annotated[float, typer.Option(help="Divides the logits; 0 is greedy.")] = 0.8,
    top_p: Annotated[float, typer.Option(help="Only the most probable tokens of this total probability.")] = 0.95,
    top_k: Annotated[int, typer.Option(help="Only so many of the most probable tokens; 0: all.")] = 0,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always the most probable token.")] = False,
    seed: Annotated[int, typer.Option(help="Decides the samples.")] = 0,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Compute all keys and values for every token.")] = False,
    document_start: Annotated[
        bool, typer.Option("--document-start", help="Put the token before the prompt that documents began with.")
    ] = False,
) -> None:
    """Continue prompts with a pretrained or exported model."""
    from finetune.generate import generate
    from finetune.sampling import Sampling

    for option, texts in (("--prompt", prompt), ("--stop", stop)):
        for text in texts or []:
            refuse_undecodable(text, option)
    if stream and (jsonl or output is not None):
        other = "--jsonl" if jsonl else "--output"
        raise ConfigError(f"is given together with {other}", where="--stream", expected="one of the two")
    sampling = Sampling(
        max_new_tokens,
        temperature,
        top_p,
        top_k,
        greedy,
        seed,
        use_cache=not no_cache,
        at_document_start=document_start,
        samples=samples,
        batch_size=batch_size,
        stop=tuple(stop or []),
    )
    sampling.check()
    if output is not None:
        check_answers_file(output, overwrite)
    prompts = [Prompt(text) for text in prompt or []]
    if prompt_file is not None:
        prompts += read_prompts(prompt_file, jsonl=True if jsonl and str(prompt_file) == "-" else None)
    if not prompts:
        raise ConfigError("no prompt was given", where="command line", expected="--prompt TEXT or --prompt-file FILE")
    console, full_context = _Console(), None
    with contextlib.ExitStack() as opened:
        file = None
        if output is not None:
            temporary = opened.enter_context(staged_file(output))
            file = opened.enter_context(temporary.open("w", encoding="utf-8"))
        texts = [each.text for each in prompts]
        for answer in generate(model, texts, sampling, console.piece if stream else None):
            if jsonl or file is not None:
                print(answer_line(answer, prompts[answer.number]), file=file, flush=file is None)
            else:
                console.end(answer)
            full_context = full_context or answer.full_context
    if output is not None:
        print(f"answers  {output}  ({len(prompts) * samples:,})", flush=True)
    if full_context is not None:
        reason = f"at the model's context of {full_context} tokens, the prompt's included"
        print(f"note: stopped {reason}, before --max-new-tokens {max_new_tokens}", file=sys.stderr, flush=True)


class _Console:
    """Prints answers, each after its prompt, whole or in pieces."""

    def __init__(self) -> None:
        self._answers = self._letters = 0
        self._has_begun = False

    def piece(self, prompt: str, text: str) -> None:
        """Print what is new of the present answer."""
        if not self._has_begun:
            print(f"{_BETWEEN}\n" * bool(self._answers) + prompt, end="")
            self._has_begun = True
        print(text, end="", flush=True)
        self._letters += len(text)

    def end(self, answer: Generated) -> None:
        """Print what of an answer is not shown yet; the next piece is of another one."""
        self.piece(answer.prompt, answer.text[self._letters :])
        print(flush=True)
        self._answers, self._letters, self._has_begun = self._answers + 1, 0, False
