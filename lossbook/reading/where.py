"""`where="config.lr > 1e-4 and state = 'finished'"`: a small language over what is known of a run.

    expression := or;  or := and ("or" and)*;  and := not ("and" not)*;  not := "not" not | comparison
    comparison := "(" or ")" | value (= | == | != | <> | < | <= | > | >= | ~ | like | ilike | contains) value
                | value ["not"] "in" (name | "(" value, ... ")") | value "is" ["not"] "null" | value
    value := number | 'text' | true | false | null | name | "odd name" | `odd name` | "text"

A name is what `lossbook.reading.names` says. What a run does not have is null, and a comparison with null is false.
Double quotes hold a name before an operator, and behind one whose left side is no name; elsewhere they hold a text, as
single quotes do. A time (`created`, `started`, `ended`) is compared with a date such as '2026-11-30' or '2026-11-30 12:00',
of this machine's time zone where it names none: `=`, `!=` and `<=` mean the whole day or minute, `<`, `>` and `>=` its
beginning.

Over a set of runs (`Where.verify`), a name that none of them has is refused, and so is a comparison that puts a text against
a number in each of them.
"""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from lossbook.errors import BadQuery
from lossbook.json_shapes import Json
from lossbook.reading.names import COLUMN_FIELDS, MOMENTS, Evaluate, bare, lookup, presence, quoted, unknown_name
from lossbook.reading.pattern import Patterns
from lossbook.reading.record import IndexRecord

DEEPEST = 50
_WORDS = frozenset(("and", "or", "not", "in", "is", "like", "ilike", "contains"))
_TOKEN = re.compile(
    r"\s*(?:(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w/.]))|(?P<text>'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")"
    r"|(?P<odd>`[^`]+`)|(?P<operator>==|!=|<>|<=|>=|=|<|>|~|\(|\)|,)|(?P<name>[A-Za-z_][\w./@\-]*))"
)


class _Operand(NamedTuple):
    """One side of a comparison: a name, or a constant."""

    evaluate: Evaluate
    written: str
    name: str | None = None
    constant: Json = None


class Check(NamedTuple):
    """What must hold of one run at least for an expression to mean anything.

    Attributes:
        verdict: of a run: True where it holds, False where it cannot, None where the run tells nothing.
        name: that some run must have, without quotes; None for a comparison.
        refusal: of a comparison, what is said where it can be made in no run.
        hint: what else may have been meant.
    """

    verdict: Callable[[IndexRecord], bool | None]
    name: str | None = None
    refusal: str = ""
    hint: str = ""

    def conclude(self, verdicts: Iterable[Json], records: Callable[[], Iterable[IndexRecord]]) -> str | None:
        """What follows from the verdicts of all runs.

        Args:
            records: gives the runs' records, for the names that they have.

        Returns:
            A remark where no run has the name yet, else None.

        Raises:
            BadQuery: no run has the name and none goes on; or a text stands against a number in every run.
        """
        found = set(verdicts)
        if True in found or not found:
            return None
        if self.name is not None:
            return unknown_name(self.name, records(), "where", hint=self.hint)
        if False in found:
            raise BadQuery(f"where: {self.refusal}")
        return None


class Where:
    """A test on a run's record. `learn` asks for the patterns of many records at once, which one by one are slow.

    Attributes:
        has_patterns: whether `learn` has anything to do.
        checks: what `verify` looks at, of each run.
    """

    def __init__(self, text: str) -> None:
        parser = _Parser(text)
        self._evaluate = parser.parse()
        self._patterns, self._matches = parser.patterns, parser.matches
        self.has_patterns = bool(parser.matches)
        self.checks = tuple(parser.checks)
        self._deadline: float | None = None
        self._seconds = 0.0

    def __call__(self, record: IndexRecord) -> bool:
        """Whether it is true of a run.

        Raises:
            BadQuery: a pattern is no regular expression, or the time set by `within` is over.
        """
        self._check_time()
        return self._evaluate(record) is True

    def verify(self, records: Sequence[IndexRecord]) -> list[str]:
        """Make sure that the expression means something of some runs, whether or not one fits.

        Returns:
            A remark for each name that none of them has yet, while one of them goes on.

        Raises:
            BadQuery: none of them has a name, or a text stands against a number in each.
        """
        remarks = []
        for check in self.checks:
            # Most names are found in the first run.
            if any(check.verdict(record) is True for record in records):
                continue
            remarks.append(check.conclude(map(check.verdict, records), lambda: records))
        return [remark for remark in remarks if remark is not None]

    def within(self, seconds: float) -> Where:
        """The same test, which gives up when it has been asked for so long."""
        self._deadline, self._seconds = time.monotonic() + seconds, seconds
        return self

    def learn(self, records: Iterable[IndexRecord]) -> None:
        """Work out the patterns for some records.

        Raises:
            BadQuery: as when it is called.
        """
        if not self._matches:
            return
        texts: dict[str, set[str]] = {}
        for record in records:
            self._check_time()
            for left, right in self._matches:
                text, pattern = left(record), right(record)
                if text is not None and pattern is not None:
                    texts.setdefault(str(pattern), set()).add(str(text))
        for pattern, found in texts.items():
            self._check_time()
            left_seconds = None if self._deadline is None else max(0.01, self._deadline - time.monotonic())
            self._patterns.learn(pattern, found, seconds=left_seconds)

    def _check_time(self) -> None:
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise BadQuery(f"where: this takes longer than {self._seconds:g} seconds for all runs; ask for less")


def compile_where(text: str) -> Where:
    """Turn an expression into a test on a run's record.

    Raises:
        BadQuery: it cannot be understood; the message says where.
    """
    return Where(text)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str, int]] = []
        position = 0
        while position < len(text.rstrip()):
            matched = _TOKEN.match(text, position)
            if matched is None or matched.lastgroup is None:
                at = position + len(text[position:]) - len(text[position:].lstrip())
                raise BadQuery(f"where: {text[at : at + 10]!r} at character {at + 1} cannot be understood")
            kind = matched.lastgroup
            self.tokens.append((kind, matched[kind], matched.start(kind)))
            position = matched.end()
        self.at = 0
        self.depth = 0
        self.patterns = Patterns()
        #: What is matched with which pattern.
        self.matches: list[tuple[Evaluate, Evaluate]] = []
        self.checks: list[Check] = []
        self._named: set[str] = set()

    def parse(self) -> Evaluate:
        if not self.tokens:
            raise BadQuery("where: the expression is empty; write for example: state = 'finished' and config.lr > 1e-4")
        result = self.any_of()
        if self.at < len(self.tokens):
            raise self.wrong("and, or, or the end")
        return result

    def wrong(self, wanted: str) -> BadQuery:
        if self.at < len(self.tokens):
            _, found, position = self.tokens[self.at]
            return BadQuery(f"where: {wanted} was expected at character {position + 1}, not {found!r}")
        return BadQuery(f"where: {wanted} was expected at the end of {self.text!r}")

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise BadQuery(f"where: nested deeper than {DEEPEST} parentheses; write it shorter")

    def word(self, *words: str) -> str | None:
        """Take the next token if it is one of these words or operators."""
        if self.at < len(self.tokens):
            kind, found, _ = self.tokens[self.at]
            if kind in ("name", "operator") and found.lower() in words:
                self.at += 1
                return found.lower()
        return None

    def any_of(self) -> Evaluate:
        self.deeper()
        parts = [self.all_of()]
        while self.word("or"):
            parts.append(self.all_of())
        self.depth -= 1
        return parts[0] if len(parts) == 1 else lambda record: any(part(record) is True for part in parts)

    def all_of(self) -> Evaluate:
        parts = [self.negation()]
        while self.word("and"):
            parts.append(self.negation())
        return parts[0] if len(parts) == 1 else lambda record: all(part(record) is True for part in parts)

    def negation(self) -> Evaluate:
        if self.word("not"):
            self.deeper()
            inner = self.negation()
            self.depth -= 1
            return lambda record: inner(record) is not True
        return self.comparison()

    def comparison(self) -> Evaluate:
        if self.word("("):
            inner = self.any_of()
            if not self.word(")"):
                raise self.wrong("')'")
            return inner
        left = self.operand(is_left=True)
        if self.word("is"):
            negated = self.word("not") is not None
            if not self.word("null"):
                raise self.wrong("null")
            return lambda record: (left.evaluate(record) is None) is not negated
        negated = self.word("not") is not None
        if self.word("in"):
            return _negate(self.membership(left), negated)
        if word := self.word("like", "ilike"):
            return _negate(_like(left.evaluate, self.operand().evaluate, fold=word == "ilike"), negated)
        if self.word("contains"):
            return _negate(_contains(left.evaluate, self.operand().evaluate), negated)
        if negated:
            raise self.wrong("in, like, ilike or contains")
        sign = self.word("=", "==", "!=", "<>", "<", "<=", ">", ">=", "~")
        if sign is None:
            return lambda record: left.evaluate(record) not in (None, False, 0, "", [])
        right = self.operand(is_name=left.name is None)
        if sign == "~":
            return self.match(left.evaluate, right.evaluate)
        return self.compare(sign, left, [right])

    def compare(self, sign: str, left: _Operand, choices: Sequence[_Operand]) -> Evaluate:
        """Compare one side with another; with `=`, with any of several."""
        tests: list[Evaluate] = []
        verdicts: list[Callable[[IndexRecord], bool | None]] = []
        for right in choices:
            if (of_times := _compare_times(sign, left, right)) is not None:
                tests.append(of_times)
                verdicts.append(lambda record: True)
                continue
            tests.append(_comparison(sign, left.evaluate, right.evaluate))
            verdicts.append(_verdict(sign, left.evaluate, right.evaluate))
        if left.name is not None or any(right.name is not None for right in choices):
            self.checks.append(
                Check(lambda record: _any_verdict(verdicts, record), refusal=_refusal(sign, left, choices))
            )
        return tests[0] if len(tests) == 1 else lambda record: any(test(record) is True for test in tests)

    def match(self, left: Evaluate, right: Evaluate) -> Evaluate:
        self.matches.append((left, right))

        def evaluate(record: IndexRecord) -> bool:
            text, pattern = left(record), right(record)
            return text is not None and pattern is not None and self.patterns.fits(str(pattern), str(text))

        return evaluate

    def membership(self, left: _Operand) -> Evaluate:
        if not self.word("("):
            return _contains(self.operand().evaluate, left.evaluate)
        choices = [self.operand()]
        while self.word(","):
            choices.append(self.operand())
        if not self.word(")"):
            raise self.wrong("',' or ')'")
        return self.compare("=", left, choices)

    def operand(self, *, is_left: bool = False, is_name: bool = False) -> _Operand:
        """The next value.

        Args:
            is_left: it stands before an operator.
            is_name: in double quotes, it is a name.
        """
        if self.at >= len(self.tokens):
            raise self.wrong("a value")
        kind, found, _ = self.tokens[self.at]
        if kind == "operator" or (kind == "name" and found.lower() in _WORDS):
            raise self.wrong("a value")
        self.at += 1
        if kind == "number":
            return _constant(float(found), found)
        hint = ""
        if kind == "text":
            text = found[1:-1].replace(found[0] * 2, found[0])
            if found[0] == "'" or not text or not (is_name or (is_left and not self.is_sought())):
                return _constant(text, found)
            hint = f" (a text is written in single quotes: '{text}')"
        words: dict[str, Json] = {"true": True, "false": False, "null": None}
        if kind == "name" and found.lower() in words:
            return _constant(words[found.lower()], found)
        name = bare(found)
        if kind == "name" and not is_left:
            hint = f" (a text is written in single quotes: '{name}')"
        if name == "path":
            raise BadQuery("where: path is a column of `lossbook ls` alone; use id, name or project")
        if name not in self._named:
            self._named.add(name)
            self.checks.append(Check(presence(name), name, hint=hint))
        return _Operand(lookup(name), found, name)

    def is_sought(self) -> bool:
        """Whether the value before is sought in a list, as in `"baseline" in tags`."""
        following = [found.lower() for _, found, _ in self.tokens[self.at : self.at + 3]]
        if following[:1] == ["not"]:
            following = following[1:]
        return following[:1] == ["in"] and following[1:2] != ["("]


def _constant(value: Json, written: str) -> _Operand:
    return _Operand(lambda record: value, written, None, value)


def _comparison(sign: str, left: Evaluate, right: Evaluate) -> Evaluate:
    return lambda record: _compare(sign, left(record), right(record))


def _verdict(sign: str, left: Evaluate, right: Evaluate) -> Callable[[IndexRecord], bool | None]:
    """Whether two values of a run can be compared; None where one is null."""
    is_order = sign in ("<", "<=", ">", ">=")

    def verdict(record: IndexRecord) -> bool | None:
        one, other = left(record), right(record)
        if one is None or other is None:
            return None
        if isinstance(one, (list, dict)) or isinstance(other, (list, dict)):
            return not is_order
        one, other = _alike(one, other)
        return not (_is_plain_number(one) and isinstance(other, str)) and not (
            _is_plain_number(other) and isinstance(one, str)
        )

    return verdict


def _any_verdict(verdicts: Sequence[Callable[[IndexRecord], bool | None]], record: IndexRecord) -> bool | None:
    found = {verdict(record) for verdict in verdicts}
    return True if True in found else False if False in found else None


def _refusal(sign: str, left: _Operand, choices: Sequence[_Operand]) -> str:
    right = choices[0]
    named, other = (left, right) if left.name is not None else (right, left)
    name = quoted(named.name or named.written)
    if other.name is not None:
        return f"{name} and {quoted(other.name)} cannot be compared: one is a text and the other a number in every run"
    if _is_plain_number(other.constant):
        return (
            f"{name} is no number in any run that has it, and cannot be compared with {other.written}; a text is written "
            f"in single quotes: '{other.written}'"
        )
    return f"{name} is no text in any run that has it, and cannot be compared with {other.written}"


# -- times ----------------------------------------------------------------------------------------------------------

#: A date, and a time of day as far as it goes: hours and minutes, seconds, and what is behind them.
_DATE = re.compile(
    r"\s*(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(:\d{2}(?:\.\d{1,6})?)?)?\s*(Z|[+-]\d{2}:?\d{2})?\s*\Z", re.IGNORECASE
)

#: A smaller number in quotes is a year, or a day without its dashes.
_LEAST_UNIX_TIME = 1e8


def _compare_times(sign: str, left: _Operand, right: _Operand) -> Evaluate | None:
    """Compare a time of the run with a date; None where it is another comparison."""
    if _is_moment(right) and isinstance(left.constant, str):
        turned = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
        return _compare_times(turned.get(sign, sign), right, left)
    if not _is_moment(left) or not isinstance(right.constant, str):
        return None
    if (_number_in(right.constant) or 0) >= _LEAST_UNIX_TIME:
        return None
    begin, end = _span(right.constant, str(left.name))
    tests: dict[str, Callable[[float], bool]] = {
        "<": lambda moment: moment < begin,
        "<=": lambda moment: moment < end,
        ">": lambda moment: moment > begin,
        ">=": lambda moment: moment >= begin,
        "!=": lambda moment: not begin <= moment < end,
        "<>": lambda moment: not begin <= moment < end,
    }
    test = tests.get(sign)

    def evaluate(record: IndexRecord) -> bool:
        moment = left.evaluate(record)
        # 0 stands for a time that nothing tells.
        if not isinstance(moment, (int, float)) or moment == 0:
            return False
        return begin <= moment < end if test is None else test(moment)

    return evaluate


def _is_moment(operand: _Operand) -> bool:
    return operand.name is not None and COLUMN_FIELDS.get(operand.name, operand.name) in MOMENTS


def _span(text: str, name: str) -> tuple[float, float]:
    """The Unix times at which what a text names begins and ends: a day, a minute, a second.

    Raises:
        BadQuery: it is no date.
    """
    found = _DATE.match(text)
    try:
        if found is None:
            raise ValueError
        day, minutes, seconds, zone = found.groups()
        zone = "+00:00" if zone in ("Z", "z") else zone or ""
        begin = datetime.fromisoformat(f"{day}T{minutes or '00:00'}{seconds or ''}{zone}")
        length = (
            timedelta(days=1) if minutes is None else timedelta(minutes=1) if seconds is None else timedelta(seconds=1)
        )
        if seconds is not None and "." in seconds:
            length = timedelta(microseconds=1)
        return begin.timestamp(), (begin + length).timestamp()
    except (ValueError, OverflowError, OSError):
        raise BadQuery(
            f"where: {name} is a time, and {text!r} is none: write '2026-11-30', '2026-11-30 12:00' or Unix seconds"
        ) from None


def _negate(evaluate: Evaluate, negated: bool) -> Evaluate:
    return (lambda record: evaluate(record) is not True) if negated else evaluate


def _contains(container: Evaluate, item: Evaluate) -> Evaluate:
    def evaluate(record: IndexRecord) -> bool:
        whole, part = container(record), item(record)
        if isinstance(whole, str):
            return str(part) in whole
        return isinstance(whole, (list, tuple)) and part in whole

    return evaluate


def _like(left: Evaluate, right: Evaluate, *, fold: bool) -> Evaluate:
    def evaluate(record: IndexRecord) -> bool:
        text, pattern = left(record), right(record)
        if text is None or pattern is None:
            return False
        text, pattern = str(text), re.sub(r"([\[\]?*])", r"[\1]", str(pattern)).replace("%", "*").replace("_", "?")
        return fnmatch.fnmatchcase(text.lower(), pattern.lower()) if fold else fnmatch.fnmatchcase(text, pattern)

    return evaluate


def _compare(sign: str, left: Json, right: Json) -> bool:
    if left is None or right is None:
        return False
    if isinstance(left, list) and sign in ("=", "==", "!=", "<>"):
        return (right in left) is (sign in ("=", "=="))
    left, right = _alike(left, right)
    match sign:
        case "=" | "==":
            return left == right
        case "!=" | "<>":
            return left != right
        case "<":
            return _is_below(left, right)
        case "<=":
            return _is_below(left, right) or left == right
        case ">":
            return _is_below(right, left)
        case _:
            return _is_below(right, left) or left == right


def _is_below(left: Json, right: Json) -> bool:
    if isinstance(left, str) and isinstance(right, str):
        return left < right
    return isinstance(left, (int, float)) and isinstance(right, (int, float)) and left < right


def _alike(left: Json, right: Json) -> tuple[Json, Json]:
    """A number and a text that holds one become two numbers; a flag and a text become two texts."""
    if isinstance(left, str) is isinstance(right, str):
        return left, right
    if _is_plain_number(left) and isinstance(right, str):
        number = _number_in(right)
        return left, right if number is None else number
    if _is_plain_number(right) and isinstance(left, str):
        number = _number_in(left)
        return left if number is None else number, right
    return str(left).lower(), str(right).lower()


def _is_plain_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number_in(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def sorted_places(values: Sequence[Json], *, descending: bool = False) -> list[int]:
    """The places of some values in their order: numbers, then texts; those without a value, or with NaN, last."""
    numbers = [(value, at) for at, value in enumerate(values) if isinstance(value, (int, float)) and value == value]
    texts = [
        (str(value), at) for at, value in enumerate(values) if value is not None and not isinstance(value, (int, float))
    ]
    numbers.sort(key=lambda pair: pair[0], reverse=descending)
    texts.sort(key=lambda pair: pair[0], reverse=descending)
    placed = [at for _, at in numbers] + [at for _, at in texts]
    with_value = set(placed)
    return placed + [at for at in range(len(values)) if at not in with_value]
