"""The chat template of a model: found, and what it needs of a tokenizer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from configs.errors import ConfigError, DataError
from configs.paths import expanded

TEMPLATE_FILE = "chat_template.jinja"
CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
CHATML = """\
{%- if tools %}
    {%- set system = messages[0].content + '\\n\\n' if messages and messages[0].role == 'system' else '' %}
    {{- '<|im_start|>system\\n' + system + 'Tools that can be called, in <tools></tools>:\\n<tools>' }}
    {%- for tool in tools %}
        {{- '\\n' + (tool | tojson) }}
    {%- endfor %}
    {{- '\\n</tools>\\nA call is a JSON object with name and arguments in <tool_call></tool_call>.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if not (tools and loop.first and message.role == 'system') %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content }}
        {%- for call in message.tool_calls or [] %}
            {%- set function = call.function or call %}
            {{- '\\n' if message.content or not loop.first else '' }}
            {{- '<tool_call>\\n{"name": ' + (function.name | tojson) + ', "arguments": ' }}
            {{- function.arguments if function.arguments is string else function.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


@dataclass(frozen=True)
class ChatTemplate:
    """A template in Jinja, as transformers reads it.

    Attributes:
        name: where it comes from, for messages.
        text: itself.
        special_tokens: spellings that need an id of their own.
    """

    name: str
    text: str
    special_tokens: tuple[str, ...] = ()

    @property
    def begins_with_token(self) -> bool:
        """Whether it may write the token that begins a document."""
        return "bos_token" in self.text


def find_template(wanted: str, special_tokens: list[str], own: str | None) -> ChatTemplate:
    """The template that `chat.template` means.

    Args:
        wanted: its value.
        special_tokens: spellings that are to have ids beside the template's own.
        own: the model's own template; None: it has none.

    Raises:
        ConfigError: the model has none, or there is no such file.
    """
    extra = tuple(special_tokens)
    if wanted == "own" and own is None:
        raise ConfigError(
            "is own, and the model has no chat template", where="chat.template", expected="chatml, or a Jinja file"
        )
    if own is not None and wanted in ("own", "auto"):
        return ChatTemplate("the model's own", own, extra)
    if wanted in ("chatml", "auto"):
        return ChatTemplate("chatml", CHATML, tuple(dict.fromkeys((*CHATML_TOKENS, *extra))))
    try:
        path = Path(expanded(wanted))
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{wanted!r} cannot be read ({error})", where="chat.template", expected="auto, chatml, own, or a Jinja file"
        ) from None
    return ChatTemplate(str(path), text, extra)


def own_template(directory: Path) -> str | None:
    """The chat template in a Hugging Face directory; None: there is none, or several without a default.

    Raises:
        DataError: its tokenizer's config is damaged.
    """
    if (directory / TEMPLATE_FILE).is_file():
        return (directory / TEMPLATE_FILE).read_text("utf-8")
    path = directory / "tokenizer_config.json"
    if not path.is_file():
        return None
    try:
        said = json.loads(path.read_text("utf-8")).get("chat_template")
    except (ValueError, AttributeError):
        raise DataError("is damaged", where=path, expected="the config of a tokenizer") from None
    if isinstance(said, list):
        said = {each.get("name"): each.get("template") for each in said}.get("default")
    return said if isinstance(said, str) else None
