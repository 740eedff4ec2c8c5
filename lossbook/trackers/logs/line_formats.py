"""What trainers print, line by line: each shape is a `LineFormat`, and `LINE_FORMATS` is the registry.

A line is read when it is of one of the shapes; nothing is made up for any other. Every shape takes time that grows with
the line alone: a log may come from anybody.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import orjson

from lossbook.json_shapes import Json, JsonObject
from lossbook.trackers.logs.columns import METRIC_WORDS, STEPS
from lossbook.trackers.logs.values import moment_of, number_of

#: Lines longer than this are passed over, unless they are JSON.
LONGEST_LINE = 8192
#: The shape of a line that is drawn many times over.
BAR = "a progress bar"


class ParsedLine(NamedTuple):
    """What a line says: numbers by name, and its step where it has one."""

    values: JsonObject
    step: float | None = None
    time: float | None = None
    rank: int = 0


class LineFormat(NamedTuple):
    """One shape of line.

    Attributes:
        title: who prints it.
        shape: what a line of it has in it.
        parse: reads a line in which the shape was found (after marks of the machine were taken off); None for one that is
            not of this shape after all.
    """

    title: str
    shape: re.Pattern[str]
    parse: Callable[[str, re.Match[str]], ParsedLine | None]


_NUMBER = r"[-+]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,4})?|[-+]?(?:nan|inf(?:inity)?)"
_UNIT = r"(?:%|[A-Za-zµ]{1,8}(?:/[A-Za-z]{1,8}){0,2}|\s(?:ms|s|sec|min)\b)?"
_WORD = r"(?![-+.\d])[\w./()%@^+-]{1,64}"
#: What stands behind a name: `: 1.5`, `=1.5ms`; a name may have several words.
_VALUE = re.compile(
    rf"\s{{0,8}}[:=]\s{{0,24}}\[?(?P<value>{_NUMBER})(?P<unit>{_UNIT})(?=$|[\s,|;)\]}}(])",
    re.IGNORECASE,
)
_NAME_WORD = re.compile(r"\(?[A-Za-z_][\w./()%@^+-]{0,64}\Z")
_MOST_WORDS = 7
#: `loss 1.5`: without a sign between them a name has to be one that is known.
_PAIR = re.compile(
    rf"\s*(?P<name>[A-Za-z_][\w./%@^+-]{{0,64}}(?: {_WORD}){{0,3}})\s{{1,8}}(?P<value>{_NUMBER})(?P<unit>{_UNIT})"
    r"(?:\s?\([^)]{0,40}\))?(?=\s|\Z)",
    re.IGNORECASE,
)
#: `1.5 ms`, `41.2% bf16 MFU`.
_VALUE_FIRST = re.compile(
    rf"(?P<value>{_NUMBER})\s?(?P<name>%(?: [\w ]{{1,20}})?|ms|s|tok/s|tokens/s|samples/s|it/s|s/it)\Z", re.IGNORECASE
)
_WIDE = re.compile(r"(?<=[A-Za-z)\]])\s{2,}(?=[-+.\d])")
_SEPARATORS = re.compile(r"\s*(?:[|;\t]|,(?!\d{3}(?:\D|\Z))|\s-\s|\s{2,})\s*")
#: Where a line says how far the training has come.
_MARK = re.compile(
    r"(?<![\w./-])(?P<name>(?:global[ _]?)?steps?|iter(?:ation)?s?|it|num_updates|updates?|batch|s|epochs?|ep)"
    r"\s{0,4}[:=#]?\s{0,12}[\[(]?\s{0,12}(?P<value>\d[\d,]*)(?:\s{0,12}(?:/|of)\s{0,12}\d[\d,]*)?"
    r"(?:\s?=\s?[\d.]+%)?\s?(?:\([\d.\s]+%\))?[\])]?(?=$|[\s,|:;\-\](){}\[])",
    re.IGNORECASE,
)
_POSITION = re.compile(r"\s*\[\s*(\d+)\s*/\s*\d+\s*(?:\(\s*[\d.]+%\))?\s*\]")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_DATE = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?")
_RANK = re.compile(r"\s{0,8}(?:\[(?:rank|default)?\s?(\d{1,5})\]|(?:rank\s)?(\d{1,5})):(?=\s|\[)", re.IGNORECASE)
_BRACKETS = re.compile(r"\[[^\[\]]*\]|\([^()]*\)")
_SPLIT = re.compile(r"(?<![A-Za-z])(val|valid|validation|eval|evaluation|test)(?![A-Za-z])", re.IGNORECASE)
_SPLITS = {"valid": "val", "validation": "val", "evaluation": "eval"}
_JOINTS = re.compile(r"\s[-|]\s|[:|>\]]|\s-\Z|\A-\s")
_STEP_PLACES = {
    name: place
    for place, name in enumerate(dict.fromkeys(("global_step", "num_updates", "total_timesteps", *STEPS)))
    if not name.startswith("epoch")
}
_GAP = re.compile(r"[\s,|:;\])-]*")
_SPACES = re.compile(r"[\s()]+")
_CAMEL = re.compile(r"[a-z][A-Z]")
_TIME_UNITS = ("ms", "s", "us", "µs", "min", "h", "sec")


class _Line(NamedTuple):
    text: str
    time: float | None
    rank: int


def parse_line(line: str) -> tuple[LineFormat, ParsedLine] | None:
    """What a line says and whose shape it has; None for one that is of no shape."""
    text, time, rank = _without_marks(line)
    if not text:
        return None
    for one in LINE_FORMATS:
        found = one.shape.search(text)
        if found is not None:
            parsed = one.parse(text, found)
            if parsed is not None:
                values = {_named(name): value for name, value in parsed.values.items()}
                return one, ParsedLine(values, parsed.step, parsed.time or time, rank)
    return None


def _without_marks(line: str) -> _Line:
    """A line without colours, without the rank in front of it, and without its date; and these."""
    if "\x1b" in line:
        line = _ANSI.sub("", line)
    found = _RANK.match(line)
    rank = int(next(filter(None, found.groups()), 0)) if found is not None else 0
    line = line[found.end() :] if found is not None else line
    moment = None
    if (date := _DATE.search(line, 0, 200)) is not None:
        moment = moment_of(date[0].replace(",", "."))
        line = f"{line[: date.start()]} {line[date.end() :]}"
    return _Line(line.strip(), moment, rank)


# -- fields -----------------------------------------------------------------------------------------------------------


def fields_of(text: str) -> dict[str, Json]:
    """The numbers of a text by name: `name: 1.5`, `name=1.5ms`, and `name 1.5` where the name is a usual one."""
    values: dict[str, Json] = {}
    rest, begin = [], 0
    for found in _VALUE.finditer(text):
        before = text[begin : found.start()]
        begin = found.end()
        name = _last_words(before)
        rest.append(before[: len(before) - len(name)] if name else before)
        if name:
            _put(values, name, found["value"], found["unit"])
    rest.append(text[begin:])
    for piece in rest:
        for segment in _SEPARATORS.split(_WIDE.sub(" ", piece)):
            begin, plain = 0, segment.strip(" :")
            while (pair := _PAIR.match(plain, begin)) is not None:
                begin = pair.end()
                if METRIC_WORDS.search(pair["name"]):
                    _put(values, pair["name"], pair["value"], pair["unit"])
            if begin == 0 and (first := _VALUE_FIRST.match(plain)) is not None:
                name = first["name"]
                is_time = name.lower() in _TIME_UNITS
                _put(values, "time" if is_time else name.removeprefix("% "), first["value"], name if is_time else "")
    return values


def _last_words(text: str) -> str:
    """The name that a text ends with: words behind the last separator, up to the last number in front of them."""
    cut = max(
        (text.rfind(one) + len(one) for one in ("|", ",", ";", "\t", "  ", " - ", "[", "{") if one in text), default=0
    )
    words: list[str] = []
    for word in reversed(text[cut:].split(" ")):
        if not _NAME_WORD.match(word) or len(words) == _MOST_WORDS:
            break
        words.insert(0, word)
    while words and words[0].startswith("("):
        del words[0]
    return " ".join(words)


def _put(values: dict[str, Json], name: str, value: str, unit: str) -> None:
    number = number_of(value.replace(",", ""))
    if number is None:
        return
    unit = unit.strip().lower()
    if unit and not unit.startswith("%") and not name.lower().endswith((f"_{unit}", f"({unit})", f" {unit}")):
        name = f"{name}_{unit}"
    values.setdefault(name, number)


@lru_cache(maxsize=4096)
def _named(name: str) -> str:
    """A name as a metric has it: without spaces and brackets, small letters unless it is in CamelCase."""
    plain = _SPACES.sub("_", name.strip()).strip("_")
    return plain if _CAMEL.search(plain) else plain.lower()


def _own_step(values: dict[str, Json]) -> float | None:
    """The step among a line's fields, taken out of them: that of the whole training before that of an epoch."""
    named = {plain: name for name in values if (plain := _named(name)) in _STEP_PLACES}
    first = min(named, key=lambda plain: _STEP_PLACES[plain], default=None)
    return number_of(values.pop(named[first])) if first is not None else None


# -- shapes -----------------------------------------------------------------------------------------------------------


def _parse_marked(text: str, found: re.Match[str]) -> ParsedLine | None:
    """`step 10: loss 3.2, ...`, `iteration 10/100 | lm loss: 3.2 | ...`, `Epoch 1 [10/100] loss=3.2`."""
    before = _BRACKETS.sub(" ", text[: found.start()])
    inside = text[: found.start()].rpartition("[")[2] if "[" in text[: found.start()] else ""
    if any(len(piece.split()) > 1 for piece in _JOINTS.split(before) if "[" not in piece):
        return None  # a sentence that speaks of a step
    values: dict[str, Json] = {}
    step: float | None = None
    end = found.start()
    while (mark := _MARK.match(text, end)) is not None:
        number = number_of(mark["value"].replace(",", ""))
        if mark["name"].lower().startswith("ep"):
            values["epoch"] = number
            if (place := _POSITION.match(text, mark.end())) is not None:
                step, end = number_of(place[1]), place.end()
                break
        else:
            step = number
        end = mark.end()
        gap = _GAP.match(text, end)
        end = gap.end() if gap is not None else end
    named = fields_of(text[end:])
    own = _own_step(named)
    step = own if own is not None else step
    if not named:
        return None
    split = _SPLIT.search(f"{inside} {text[: found.start()]}")
    if split is not None:
        named = _with_split(named, split[1])
    return ParsedLine({**values, **named}, step)


def _with_split(values: dict[str, Json], split: str) -> dict[str, Json]:
    """Names with what of the data they were measured on, so that they are not taken for the training's."""
    word = _SPLITS.get(split.lower(), split.lower())
    return {name if _SPLIT.search(name) else f"{word}_{name}": value for name, value in values.items()}


def _parse_short(text: str, found: re.Match[str]) -> ParsedLine | None:
    names = {"trl": "train_loss", "tel": "val_loss", "eval": "hellaswag_accuracy"}
    values = {names.get(name, name): value for name, value in fields_of(text[found.end() :]).items()}
    return ParsedLine(values, number_of(found[1])) if values else None


def _parse_numbered(text: str, found: re.Match[str]) -> ParsedLine | None:
    name = {"train": "train_loss", "val": "val_loss", "hella": "hellaswag_accuracy"}[found[2]]
    return ParsedLine({name: number_of(found[3])}, number_of(found[1]))


def _parse_validation(text: str, found: re.Match[str]) -> ParsedLine | None:
    """`validation loss at iteration 1000 | lm loss value: 3.2 | lm loss PPL: 24.5 |`, and `... at step 10: 3.2`."""
    split = "test" if "test" in found["split"].lower() or "test set" in found["where"].lower() else "val"
    if (plain := re.match(rf"\s*[:=]\s*({_NUMBER})\s*\Z", found["rest"], re.IGNORECASE)) is not None:
        return ParsedLine({f"{split}_{found['name']}": number_of(plain[1].replace(",", ""))}, number_of(found["step"]))
    names = {"lm loss value": "loss", "lm loss PPL": "ppl"}
    values = {names.get(name, name): value for name, value in fields_of(found["rest"]).items()}
    return ParsedLine(_with_split(values, split), number_of(found["step"])) if values else None


def _parse_dictionary(text: str, found: re.Match[str]) -> ParsedLine | None:
    """A dictionary as Python prints it: `{'loss': 3.2, 'epoch': 0.1}`."""
    values: dict[str, Json] = {
        name: number_of(value) for name, value in _ITEM.findall(found[0]) if number_of(value) is not None
    }
    step = _own_step(values)
    return ParsedLine(values, step) if set(values) - {"epoch"} else None


def _parse_object(text: str, found: re.Match[str]) -> ParsedLine | None:
    """An object of JSON at the end of a line, as fairseq, metaseq and structured loggers write it."""
    try:
        read = orjson.loads(found[0])
    except orjson.JSONDecodeError:
        return None
    if not isinstance(read, dict):
        return None
    values: dict[str, Json] = {str(name): value for name, value in read.items() if number_of(value) is not None}
    updates = next((name for name in values if re.fullmatch(r"(?:(?:train|valid|test)_)?num_updates", name)), None)
    step = number_of(values.pop(updates)) if updates is not None else None
    if not set(values) - {"epoch", "update"}:
        return None
    step = step if step is not None else _own_step(values)
    if step is None and (mark := _MARK.search(text, 0, found.start())) is not None:
        step = number_of(mark["value"].replace(",", ""))
    return ParsedLine(values, step)


def _parse_epoch_of(text: str, found: re.Match[str]) -> ParsedLine | None:
    """`Epoch(train) [2][50/100] loss: 3.2`: the length of an epoch tells the step of the whole training."""
    values = fields_of(text[found.end() :])
    epoch, place, length = (int(found[at]) for at in (1, 2, 3))
    return ParsedLine({"epoch": epoch, **values}, (epoch - 1) * length + place) if values else None


def _parse_bar(text: str, found: re.Match[str]) -> ParsedLine | None:
    """A progress bar with numbers behind it: `Epoch 0: 10%|# | 10/100 [00:01<00:09, 9.5it/s, loss=3.2]`."""
    values = fields_of(found["post"])
    values.pop("v_num", None)
    step = _own_step(values)
    if not values:
        return None
    epoch = re.match(r"(?:.*\D)?epoch\s+(\d+)", text[: found.start()], re.IGNORECASE)
    about: dict[str, Json] = {"epoch": number_of(epoch[1])} if epoch is not None else {}
    return ParsedLine({**about, **values}, step if step is not None else number_of(found["done"]))


def _parse_fields(text: str, found: re.Match[str]) -> ParsedLine | None:
    """`eta: 0:01:00  iter: 19  total_loss: 3.2  lr: 0.01`: the step is one of the fields."""
    values = fields_of(text)
    step = _own_step(values)
    return ParsedLine(values, step) if step is not None and len(values) > 1 else None


_ITEM = re.compile(rf"['\"]([^'\"]{{1,200}})['\"]:\s*['\"]?({_NUMBER})['\"]?(?=[,}}\s])", re.IGNORECASE)

#: A line is of the first of these whose shape it has.
LINE_FORMATS: tuple[LineFormat, ...] = (
    LineFormat("fairseq and metaseq", re.compile(r'\{"[^{}]*\}\s*\Z'), _parse_object),
    LineFormat("Hugging Face's Trainer", re.compile(r"\{'[^{}]*\}"), _parse_dictionary),
    LineFormat(BAR, re.compile(
        r"%\|[^|]{0,200}\|\s*(?P<done>\d+)/\d+\s*\[[^\]<]*<[^,\]]*,[^,\]]*,(?P<post>[^\]]*)\]?"), _parse_bar),
    LineFormat("llm.c", re.compile(r"\As:(\d+)\s"), _parse_short),
    LineFormat("build-nanogpt", re.compile(rf"\A(\d+) (train|val|hella) ({_NUMBER})\Z"), _parse_numbered),
    LineFormat("Megatron's validation", re.compile(
        r"(?P<split>validation|val|test|eval\w*)\s(?P<name>loss|perplexity|ppl|accuracy|bpb)\sat\s(?:step|iteration|iter|epoch)\s"
        r"(?P<step>\d+)(?P<where>[^|:=]{0,60})(?P<rest>.*)", re.IGNORECASE), _parse_validation),
    LineFormat("MMEngine", re.compile(r"\bEpoch\(train\)\s*\[(\d{1,9})\]\s?\[\s*(\d{1,9})/(\d{1,9})\]"), _parse_epoch_of),
    LineFormat("a step and named numbers", _MARK, _parse_marked),
    LineFormat("named numbers, a step among them", re.compile(
        r"(?<![\w./])(?:iter(?:ation)?|(?:global_)?step|num_updates|total_timesteps)\s?[:=]", re.IGNORECASE), _parse_fields),
)  # fmt: skip
