"""Routes: which function answers which address, with a question that was read strictly from what was sent.

A file of `lossbook/web/api/` has a table `ROUTES` of them; its functions take `(session, question)`, return a dataclass
of `answers`, a `Frame` or a `SentFile`, and know nothing of HTTP. A question is a frozen dataclass: its fields are the
parameters of the address (`get`) or the members of the JSON body (`post`).
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from lossbook.errors import BadArgument

if TYPE_CHECKING:
    from lossbook.web.session import Session

Question = TypeVar("Question")
Member = TypeVar("Member")
#: What answers a route: the session and a question of the route's type go in.
Answer = Callable[["Session", Any], object]

#: So long may one text in a question be: a `where` expression or a note, not a book.
LONGEST_TEXT = 100_000
#: So many members may a list in a question have; a question with a narrower limit checks it by itself.
MOST_MEMBERS = 20_000


class Forbidden(BadArgument):
    """What was asked is understood and not allowed."""


@dataclass(frozen=True)
class Nothing:
    """The question of a route that takes no parameters."""


@dataclass(frozen=True)
class Route:
    """One address of the server."""

    method: str
    path: str
    question: type
    answer: Answer
    edits: bool = False  # answered only where the server was started with --edit


def get(path: str, question: type[Question], answer: Callable[[Session, Question], object]) -> Route:
    """A question that is asked with parameters in the address."""
    return Route("GET", path, question, answer)


def post(
    path: str, question: type[Question], answer: Callable[[Session, Question], object], *, edits: bool = False
) -> Route:
    """A question that is asked with a JSON body.

    Args:
        edits: it changes a run, so it is answered only where the server was started with `--edit`.
    """
    return Route("POST", path, question, answer, edits)


#: Says whether somebody waits for the answer that this thread works at.
_awaited: ContextVar[Callable[[], bool]] = ContextVar("awaited", default=lambda: True)


def is_awaited() -> Callable[[], bool]:
    """A function for any thread: whether whoever asked what is being answered here still waits for it."""
    return _awaited.get()


@contextmanager
def awaited_while(condition: Callable[[], bool]) -> Iterator[None]:
    """What is answered within is awaited as long as `condition` holds."""
    token = _awaited.set(condition)
    try:
        yield
    finally:
        _awaited.reset(token)


# -- questions ----------------------------------------------------------------------------------------------------


def question_of_parameters(question: type[Question], parameters: Sequence[tuple[str, str]]) -> Question:
    """Read a question from the parameters of an address; a name that comes again adds to a list.

    Raises:
        BadArgument: a parameter that is not known, is missing, comes twice or cannot be meant.
    """
    given: dict[str, list[str]] = {}
    for name, text in parameters:
        given.setdefault(name, []).append(text)
    hints = _type_hints(question)
    _refuse_unknown(given, hints)
    values: dict[str, object] = {}
    for name, texts in given.items():
        hint = hints[name]
        if typing.get_origin(hint) is list:
            inner = typing.get_args(hint)[0]
            values[name] = [_of_text(name, text, inner) for text in _limited(name, texts)]
        elif len(texts) > 1:
            raise BadArgument(f"{name} was given {len(texts)} times: it has one value")
        else:
            values[name] = _of_text(name, texts[0], hint)
    return _made(question, values)


def question_of_body(question: type[Question], body: bytes) -> Question:
    """Read a question from a JSON body.

    Raises:
        BadArgument: the body is no JSON object, or a member is unknown, missing or of another type.
    """
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadArgument(f"the body is no JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    if not isinstance(given, dict):
        raise BadArgument(f"the body is {_kind(given)}: it is an object with {', '.join(_type_hints(question))}")
    return _made_of_members(given, question)


def _of_text(name: str, text: str, hint: object) -> object:
    if len(text) > LONGEST_TEXT:
        raise BadArgument(f"{name} is longer than {LONGEST_TEXT:,} characters")
    wanted = _without_none(hint)
    if wanted is str:
        return text
    if wanted is bool:
        if text not in ("0", "1", "true", "false"):
            raise BadArgument(f"{name}={text[:40]!r}: say true or false")
        return text in ("1", "true")
    try:
        if wanted is int:
            return int(text)
        number = float(text)
    except ValueError:
        raise BadArgument(f"{name}={text[:40]!r} is not a{' whole' if wanted is int else ''} number") from None
    if not math.isfinite(number):
        raise BadArgument(f"{name}={text[:40]!r} is not a finite number")
    return number


def _made_of_members(given: Mapping[str, object], question: type[Question]) -> Question:
    hints = _type_hints(question)
    _refuse_unknown(given, hints)
    return _made(question, {member: _of_json(member, one, hints[member]) for member, one in given.items()})


def _of_json(name: str, value: object, hint: object) -> object:
    """`value` as its type hint says, dataclasses made of objects; JSON knows no NaN, so numbers are finite."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise BadArgument(f"{name} is {_kind(value)}: it is an object with {', '.join(_type_hints(hint))}")
        return _made_of_members(value, hint)
    wanted = _without_none(hint)
    if value is None and hint is not wanted:
        return None
    if wanted is object:
        return value
    if typing.get_origin(wanted) is list:
        if not isinstance(value, list):
            raise BadArgument(f"{name} is {_kind(value)}: it is a list")
        inner = typing.get_args(wanted)[0]
        return [_of_json(name, one, inner) for one in _limited(name, value)]
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    assert isinstance(wanted, type)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise BadArgument(f"{name} is {_kind(value)}: it is {_NAMES.get(wanted, wanted.__name__)}")
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise BadArgument(f"{name} is longer than {LONGEST_TEXT:,} characters")
    return value


_NAMES: dict[type, str] = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return {**_NAMES, dict: "an object", list: "a list"}.get(type(value), "something else")


def _limited(name: str, members: list[Member]) -> list[Member]:
    if len(members) > MOST_MEMBERS:
        raise BadArgument(f"{name} has {len(members):,} members: {MOST_MEMBERS:,} are the most")
    return members


def _refuse_unknown(given: Mapping[str, object], hints: Mapping[str, object]) -> None:
    unknown = [name for name in given if name not in hints]
    if unknown:
        known = ", ".join(hints) or "none"
        raise BadArgument(f"{unknown[0][:40]!r} is not known here; what can be given: {known}")


def _made(question: type[Question], values: dict[str, object]) -> Question:
    assert dataclasses.is_dataclass(question)
    missing = [
        field.name
        for field in dataclasses.fields(question)
        if field.name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise BadArgument(f"{missing[0]} is missing")
    made: Question = question(**values)
    return made


def _type_hints(question: type) -> dict[str, object]:
    known = _KNOWN_HINTS.get(question)
    if known is None:
        known = _KNOWN_HINTS[question] = typing.get_type_hints(question)
    return known


_KNOWN_HINTS: dict[type, dict[str, object]] = {}


@cache
def _without_none(hint: object) -> object:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        rest = [one for one in typing.get_args(hint) if one is not type(None)]
        return rest[0] if len(rest) == 1 else hint
    return hint


# -- answers ------------------------------------------------------------------------------------------------------


def json_of(answer: object) -> bytes:
    """An answer as JSON; a number that is not finite is the text "NaN", "Infinity" or "-Infinity"."""
    return orjson.dumps(_finite(answer), option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY, default=str)


def _finite(value: object) -> object:
    """`value` with texts in place of numbers that are not finite; what cannot have any is left as it is."""
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, (str, int)) or value is None:
        return value
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        doubtful = _doubtful_fields(type(value))
        if not doubtful:
            return value
        return {
            field.name: _finite(getattr(value, field.name)) if field.name in doubtful else getattr(value, field.name)
            for field in dataclasses.fields(value)
        }
    return value


@cache
def _doubtful_fields(one: type) -> frozenset[str]:
    """The fields of an answer that may hold a number that is not finite, as their types tell."""
    return frozenset(name for name, hint in _type_hints(one).items() if _may_be_odd(hint))


def _may_be_odd(hint: object) -> bool:
    if hint is object:
        return True
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return bool(_doubtful_fields(hint))
    inner = typing.get_args(hint)
    # `Number` is a number or the name of one; a plain float is a time or a duration.
    return (float in inner and str in inner) or any(_may_be_odd(one) for one in inner)
