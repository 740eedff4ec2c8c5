"""Secrets stay out of a run's files: which names and which texts are masked before they are written."""

from __future__ import annotations

import re
from typing import Any

MASK = "***"
#: A number up to that is no secret, whatever it is called: a size, a count, a port.
MOST_PLAIN = 99_999
_NO_SECRETS = frozenset(("None", "True", "False", "null", "true", "false", MASK))
_SECRET_NAME = re.compile(
    r"(?:^|[_./:])(?:api_?key|apikey|secret|secrets|secret_?key|access_?key|access_?key_?id|private_?key|password|"
    r"passwd|passphrase|auth_?token|access_?token|refresh_?token|(?:api|hf|hub|hugging_?face|github|gitlab|wandb|slack|"
    r"bot|bearer)_?token|bearer|credential|credentials|cookie|dsn|"
    r"connection_?string|netrc|webhook)(?:$|[_.](?:id|file|path|url)?$)",
    re.IGNORECASE,
)  # `pad_token`, `eos_token` and the like are a language model's, no secrets; a bare `token` is one.
#: Each name that `_SECRET_NAME` finds has one of these in it, in small letters; most names have none.
_WORD_OF_A_SECRET_NAME = re.compile(r"key|secret|pass|token|bearer|credential|cookie|dsn|connection|netrc|webhook")
_LAST_WORD = re.compile(r"[./:]")
_INNER_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# What is printed passes through these in the training process: no pattern may cost more than its text is long.
# Formats published by those who issue them: OpenAI and Anthropic, Hugging Face, GitHub, AWS, Google, Slack, JWT.
_SECRET_TEXT = re.compile(
    r"(?<![A-Za-z0-9])(?:sk-[A-Za-z0-9_\-]{16,}|hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|"
    r"AKIA[0-9A-Z]{16}|AIza[0-9A-Za-z_\-]{30,}|xox[abprs]-[A-Za-z0-9\-]{10,}|"
    r"eyJ[A-Za-z0-9_\-]{10,2000}\.[A-Za-z0-9_\-]{10,8000}\.[A-Za-z0-9_\-]{5,}|wandb_v1_[A-Za-z0-9_]{20,})|"
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[^-]|-(?!----))*+-----END [A-Z ]*PRIVATE KEY-----"
)
#: One of these stands in whatever the pattern above finds.
_SECRET_WORDS = (
    "sk-",
    "hf_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "AKIA",
    "AIza",
    "xox",
    "eyJ",
    "wandb_v1_",
    "-----BEGIN ",
)
#: Characters of a long text that are looked at together.
_PIECE = 4096
_URL_PASSWORD = re.compile(r"(?<=://)[^/\s@]++(?=@)")
_ASSIGNMENT = re.compile(
    r"""((?:api_?key|apikey|secret_?key|access_?key|password|passwd|auth_?token|access_?token)["']?\s*[=:]\s*["'])[^"'\n]{6,}(["'])""",
    re.IGNORECASE,
)
# The same without quotes, as in `.env`, YAML and the shell: there a value is told from an expression of code by
# its length and by a digit in it.
_BARE_ASSIGNMENT = re.compile(
    r"""((?:api_?key|apikey|secret_?key|access_?key|password|passwd|auth_?token|access_?token)\s*[=:][ \t]*)"""
    r"""(?=[A-Za-z_+/\-]{0,500}[0-9])[A-Za-z0-9_+/=\-]{16,500}+(?=\s|$)""",
    re.IGNORECASE,
)

# A name and its value as Python shows the fields of an object or the items of a dictionary, and as options are overridden.
_NAMED_VALUE = re.compile(
    # Possessive, so that a long word costs no more than its length; a value ends where another name begins.
    r"""(?<![\w.\-/])(?P<name>[\w.\-/]++)(?P<between>["']?\s*[=:]\s*)"""
    r"""(?P<value>"[^"\n]*"|'[^'\n]*'|[^\s,;()\[\]{}"'=]++(?!=[^=\s,;)])=*)"""
)


def is_secret_name(name: str) -> bool:
    """Whether an option, a variable or a configuration key of that name holds a secret (`tokens` does not)."""
    if name.isascii() and _WORD_OF_A_SECRET_NAME.search(name.lower()) is None:
        return False
    # `--api-key` and `apiKey` mean what `api_key` does.
    name = _INNER_CAPITAL.sub("_", name.replace("-", "_").replace(" ", "_"))
    return _LAST_WORD.split(name)[-1].lower() == "token" or _SECRET_NAME.search(name) is not None


def mask_text(text: str) -> str:
    """Mask what looks like a credential inside a text: known formats, passwords in URLs, assignments."""
    # Most texts hold nothing of the kind, and looking for a letter costs a tenth of what looking for a pattern does:
    # each pattern is asked only where the text has what every match of it has.
    for word in _SECRET_WORDS:
        if word in text:
            text = _SECRET_TEXT.sub(MASK, text)
            break
    if not (":" in text or "=" in text):
        return text
    if "@" in text and "://" in text:
        text = _URL_PASSWORD.sub(MASK, text)
    folded = text.casefold()
    if "key" in folded or "passw" in folded or ("token" in folded and ("auth" in folded or "access" in folded)):
        text = _ASSIGNMENT.sub(rf"\1{MASK}\2", text)
        text = _BARE_ASSIGNMENT.sub(rf"\1{MASK}", text)
    return text


def mask_lines(text: str) -> str:
    """`mask_text` for a long text of many lines, of which few need more than a look."""
    if len(text) <= _PIECE or "-----BEGIN " in text:
        return mask_text(text)
    pieces, start = [], 0
    while start < len(text):
        end = text.find("\n", start + _PIECE) + 1 or len(text)
        pieces.append(mask_text(text[start:end]))
        start = end
    return "".join(pieces)


def mask_named_values(text: str) -> str:
    """Mask also what stands behind a secret name (`api_key='x'`, `'password': 'x'`, `token=x`), however short it is.

    For the text of an object and for a command line; in a program's code it would mask expressions.
    """
    return _NAMED_VALUE.sub(_mask_named_value, mask_text(text))


def _mask_named_value(found: re.Match[str]) -> str:
    value = found["value"]
    if not is_secret_name(found["name"].strip("-./")) or value in _NO_SECRETS:
        return found[0]
    quote = value[0] if value[0] in "\"'" else ""
    return f"{found['name']}{found['between']}{quote}{MASK}{quote}"


def mask_arguments(argv: list[str]) -> list[str]:
    """Mask the values of secret options on a command line (`--api-key X`, `--token=X`, `logger.api_key=X`)."""
    masked: list[str] = []
    hide_next = False
    for argument in argv:
        if hide_next and not argument.startswith("-"):
            masked.append(MASK)
            hide_next = False
            continue
        hide_next = False
        name, equals, _ = argument.partition("=")
        if (equals or name.startswith("-")) and is_secret_name(name.lstrip("-+~")):
            masked.append(f"{name}={MASK}" if equals else name)
            hide_next = not equals
        else:
            masked.append(mask_named_values(argument))
    return masked


def mask_config(value: Any, *, hidden: bool = False) -> Any:
    """Mask strings and long numbers in a nested configuration, by the names they stand under and by their look.

    Args:
        value: in the types that JSON has; the fields of objects are to be its names by now (`lossbook.run.plain_config`).
    """
    if isinstance(value, dict):
        return {key: mask_config(inner, hidden=hidden or is_secret_name(str(key))) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [mask_config(inner, hidden=hidden) for inner in value]
    if isinstance(value, str):
        return MASK if value and hidden else mask_text(value)
    if hidden and type(value) in (int, float) and abs(value) > MOST_PLAIN:
        return MASK
    return value
