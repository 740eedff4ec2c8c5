"""Puts a foreign value in words, as JSON can hold them; never raises, whatever the value does when it is asked."""

from __future__ import annotations

from lossbook.handlers import is_of_handler


def text_of(value: object) -> str:
    """`str(value)` as JSON can hold it; the type's name where the value has no text."""
    try:
        return clean_text(value)
    except Exception as error:
        if is_of_handler(error):
            raise
        return f"<{type(value).__name__}>"


def clean_text(value: object) -> str:
    """`str(value)` with lone surrogates replaced.

    Raises:
        Exception: of any kind, where the value has no text.
    """
    return str(value).encode("utf-8", "replace").decode()


def shown(value: object) -> str:
    """A value as a sentence names it: its `repr`, cut short."""
    try:
        text = clean_text(repr(value))
    except Exception as error:
        if is_of_handler(error):
            raise
        return f"<{type(value).__name__}>"
    return text if len(text) <= 60 else f"{text[:57]}..."


def describe(error: BaseException) -> str:
    """An error in a few words, also one that cannot say what it is."""
    return f"{type(error).__name__}: {text_of(error)}"


def describe_briefly(error: BaseException) -> str:
    """The first line of an error's description, cut short: some print a page."""
    lines = describe(error).splitlines()
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 160 else f"{text[:157]}..."
