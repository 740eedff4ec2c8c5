"""`where="config.lr > 1e-4 and state = 'finished'"`: a small language over what is known of a run.

    expression := or;  or := and ("or" and)*;  and := not ("and" not)*;  not := "not" not | comparison
    comparison := "(" or ")" | value (= | == | != | <> | < | <= | > | >= | ~ | like | ilike | contains) value
                | value ["not"] "in" (name | "(" value, ... ")") | value "is" ["not"] "null" | value
    value := number | 'text' | "text" | true | false | null | name | `odd name`

A name is a field of the run (`state`, `tags`, ...), `config.a.b`, `summary.x`, or a metric (`val/loss`: its last
value; `val/loss.min`, `.max`, `.mean`, `.last`, `.count`). What a run does not have is null, and a comparison with
null is false.
"""

from __future__ import annotations

import difflib
import fnmatch
import operator
import re
import time
from collections.abc import Callable, Iterable, Sequence

from lossbook.errors import BadQuery
from lossbook.json_shapes import Json, JsonMapping
from lossbook.metrics import find_key
from lossbook.reading.pattern import Patterns
from lossbook.reading.record import IndexRecord

FIELDS = ("id", "name", "project", "state", "error", "group", "notes", "tags", "created", "ended", "host", "user",
          "attempts", "last_step", "rows", "duration", "alerts")  # fmt: skip
DEEPEST = 50
_WORDS = frozenset(("and", "or", "not", "in", "is", "like", "ilike", "contains"))
_STATISTICS = ("last", "min", "max", "mean", "count", "last_step", "min_step", "max_step", "nonfinite")
_NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_TOKEN = re.compile(
    r"\s*(?:(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w/.]))|(?P<text>'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")"
    r"|(?P<odd>`[^`]+`)|(?P<operator>==|!=|<>|<=|>=|=|<|>|~|\(|\)|,)|(?P<name>[A-Za-z_][\w./@\-]*))"
)

Evaluate = Callable[[IndexRecord], Json]


class Where:
    """A test on a run's record. `learn` asks for the patterns of many records at once, which one by one are slow.

    Attributes:
        has_patterns: whether `learn` has anything to do.
    """

    def __init__(self, text: str) -> None:
        parser = _Parser(text)
        self._evaluate = parser.parse()
        self._patterns, self._matches = parser.patterns, parser.matches
        self.has_patterns = bool(parser.matches)
        self._deadline: float | None = None
        self._seconds = 0.0

    def __call__(self, record: IndexRecord) -> bool:
        """Whether it is true of a run.

        Raises:
            BadQuery: a pattern is no regular expression, or the time set by `within` is over.
        """
        self._check_time()
        return self._evaluate(record) is True

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


def compile_value(name: str) -> Evaluate:
    """Turn one name (as in `sort=` and columns) into what it is for a run; None where the run does not have it."""
    return _lookup(name.strip("`"))


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
        left = self.value()
        if self.word("is"):
            negated = self.word("not") is not None
            if not self.word("null"):
                raise self.wrong("null")
            return lambda record: (left(record) is None) is not negated
        negated = self.word("not") is not None
        if self.word("in"):
            return _negate(self.membership(left), negated)
        if word := self.word("like", "ilike"):
            return _negate(_like(left, self.value(), fold=word == "ilike"), negated)
        if self.word("contains"):
            return _negate(_contains(left, self.value()), negated)
        if negated:
            raise self.wrong("in, like, ilike or contains")
        sign = self.word("=", "==", "!=", "<>", "<", "<=", ">", ">=", "~")
        if sign is None:
            return lambda record: left(record) not in (None, False, 0, "", [])
        right = self.value()
        if sign == "~":
            return self.match(left, right)
        return lambda record: _compare(sign, left(record), right(record))

    def match(self, left: Evaluate, right: Evaluate) -> Evaluate:
        self.matches.append((left, right))

        def evaluate(record: IndexRecord) -> bool:
            text, pattern = left(record), right(record)
            return text is not None and pattern is not None and self.patterns.fits(str(pattern), str(text))

        return evaluate

    def membership(self, left: Evaluate) -> Evaluate:
        if not self.word("("):
            return _contains(self.value(), left)
        choices = [self.value()]
        while self.word(","):
            choices.append(self.value())
        if not self.word(")"):
            raise self.wrong("',' or ')'")
        return lambda record: any(_compare("=", left(record), choice(record)) for choice in choices)

    def value(self) -> Evaluate:
        if self.at >= len(self.tokens):
            raise self.wrong("a value")
        kind, found, _ = self.tokens[self.at]
        if kind == "operator" or (kind == "name" and found.lower() in _WORDS):
            raise self.wrong("a value")
        self.at += 1
        constant: Json
        if kind == "number":
            constant = float(found)
            return lambda record: constant
        if kind == "text":
            constant = found[1:-1].replace(found[0] * 2, found[0])
            return lambda record: constant
        words: dict[str, Json] = {"true": True, "false": False, "null": None}
        if kind == "name" and found.lower() in words:
            constant = words[found.lower()]
            return lambda record: constant
        name = found.strip("`")
        if kind == "name" and name not in FIELDS and not any(mark in name for mark in "./"):
            close = difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.75)
            if close:
                raise BadQuery(f"where: there is no field {name!r}; did you mean {close[0]!r}?")
        return _lookup(name)


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
    """Compare a number with a text that holds one as numbers, and anything else with a text as texts."""
    if isinstance(left, str) is isinstance(right, str):
        return left, right
    if _is_plain_number(left) and isinstance(right, str):
        number = _number_in(right)
        return (str(left), right) if number is None else (left, number)
    if _is_plain_number(right) and isinstance(left, str):
        number = _number_in(left)
        return (left, str(right)) if number is None else (number, right)
    return str(left).lower(), str(right).lower()


def _is_plain_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number_in(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _lookup(name: str) -> Evaluate:
    if name in FIELDS:
        return operator.attrgetter(name)
    if name.startswith("config."):
        return lambda record: nested(record.config, name.removeprefix("config."))
    if name.startswith("summary."):
        return lambda record: nested(record.summary, name.removeprefix("summary."))
    base, dot, statistic = name.rpartition(".")

    def metric(record: IndexRecord) -> Json:
        key = find_key(name, record.metrics)
        if key is not None:
            return record.metrics.value(key, "last")
        if dot and statistic in _STATISTICS:
            key = find_key(base, record.metrics)
            if key is not None:
                return record.metrics.value(key, statistic)
        found = nested(record.summary, name)
        return found if found is not None else nested(record.config, name)

    return metric


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


def nested(values: JsonMapping, path: str) -> Json:
    """The value at `a.b.c` (or under a key that has dots of its own); None where there is none."""
    if path in values:
        return plain_number(values[path])
    head, dot, rest = path.partition(".")
    inner = values.get(head)
    if dot and isinstance(inner, dict):
        return nested(inner, rest)
    return None


def plain_number(value: Json) -> Json:
    """A value as the summary holds it, with what is not finite as a float."""
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value
