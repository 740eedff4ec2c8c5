"""`ExperimentConfig`: what a language-model experiment was run with, checked when it is made.

One class for two vocabularies: `learning_rate` and `max_learning_rate` are one quantity, and so are `num_iterations`
and `max_iters`. A file is refused with its line and with what is allowed there.
"""

from __future__ import annotations

import math
import operator
import os
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from lossbook.errors import BadArgument
from lossbook.metrics import nearest

#: Two names of one quantity: ours, and what the other vocabulary calls it.
SAME = {"learning_rate": "max_learning_rate", "num_iterations": "max_iters"}
_TWIN = {**SAME, **{second: first for first, second in SAME.items()}}

_WHOLE = (
    "vocab_size", "context_length", "d_model", "num_heads", "num_layers", "d_ff", "num_kv_heads", "batch_size",
    "gradient_accumulation_steps", "num_iterations", "max_iters", "warmup_iters", "seed",
)  # fmt: skip
_NUMBERS = (
    "rope_theta", "learning_rate", "max_learning_rate", "min_learning_rate", "weight_decay", "grad_clip", "beta1",
    "beta2", "eps",
)  # fmt: skip
_TEXTS = (
    "experiment_name", "model_size", "dataset", "experiment_type", "architecture", "optimizer_name", "device", "dtype",
    "notes",
)  # fmt: skip
_FLAGS = ("track_memory",)
ARCHITECTURES = ("gpt2", "llama")
#: The smallest allowed value, whether that value itself is allowed, and how to say it.
_AT_LEAST_ONE = "1 or more"
_RANGES: dict[str, tuple[float, bool, float, bool, str]] = {
    **dict.fromkeys(_WHOLE, (1, True, 2**63, False, _AT_LEAST_ONE)),
    "warmup_iters": (0, True, 2**63, False, "0 or more"),
    "seed": (-(2**63), True, 2**64, False, "a whole number of 64 bits"),
    "rope_theta": (0, False, math.inf, False, "above 0"),
    "learning_rate": (0, False, math.inf, False, "above 0"),
    "max_learning_rate": (0, False, math.inf, False, "above 0"),
    "min_learning_rate": (0, True, math.inf, False, "0 or more"),
    "weight_decay": (0, True, math.inf, False, "0 or more"),
    "grad_clip": (0, True, math.inf, True, "0 or more"),
    "beta1": (0, True, 1, False, "from 0 to below 1"),
    "beta2": (0, True, 1, False, "from 0 to below 1"),
    "eps": (0, True, math.inf, False, "0 or more"),
}
_NUMBER = re.compile(r"[+-]?(\d[\d_]*\.?\d*|\.\d+)([eE][+-]?\d+)?\Z")


@dataclass
class ExperimentConfig:
    """What an experiment was run with. Every field may be left out; None means that it was not said.

    Args:
        experiment_name: default `{model_size}_{dataset}_{experiment_type}_{timestamp}`.
        model_size: what people call the model, such as "17M".
        dataset: what people call the text, such as "tinystories".
        experiment_type: "baseline", "ablation", ...
        tags: words to find it by; model size, dataset and type are added to them.
        architecture: "gpt2" (learned positions, biases, tied head) or "llama" (RoPE, RMSNorm, SwiGLU): how
            `estimate_parameters()` counts.
        context_length: tokens of a sequence.
        batch_size: sequences of one micro-batch of one process.
        gradient_accumulation_steps: micro-batches of one gradient step.
        num_iterations: turns of the training loop; also called `max_iters`.
        learning_rate: the highest; also called `max_learning_rate`.
        warmup_iters: turns of warm-up.
        dtype: what the matrix products are computed in; decides which peak the utilisation is measured against.
        track_memory: log the memory of GPUs and host.
        extra: anything else worth recording, by name.

    Raises:
        BadArgument: a value of the wrong type or out of range; the message names the field and what is allowed.
    """

    experiment_name: str | None = None
    model_size: str | None = None
    dataset: str | None = None
    experiment_type: str = "baseline"
    tags: list[str] = field(default_factory=list)
    architecture: str | None = None
    vocab_size: int | None = None
    context_length: int | None = None
    d_model: int | None = None
    num_heads: int | None = None
    num_layers: int | None = None
    d_ff: int | None = None
    num_kv_heads: int | None = None
    rope_theta: float | None = None
    batch_size: int | None = None
    gradient_accumulation_steps: int = 1
    num_iterations: int | None = None
    max_iters: int | None = None
    learning_rate: float | None = None
    max_learning_rate: float | None = None
    min_learning_rate: float | None = None
    warmup_iters: int | None = None
    weight_decay: float | None = None
    grad_clip: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    eps: float | None = None
    optimizer_name: str | None = None
    seed: int | None = None
    device: str | None = None
    dtype: str | None = None
    track_memory: bool = True
    notes: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, other in SAME.items():
            first, second = getattr(self, name), getattr(self, other)
            if first is not None and second is not None and check(name, first) != check(other, second):
                raise BadArgument(
                    f"{name}={first!r} and {other}={second!r}: these are two names of one value, give one"
                )
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        self.__dict__["_made"] = True
        for name, value in given.items():
            if value is not None or name not in _TWIN:
                setattr(self, name, value)
        if self.experiment_name is None:
            self.experiment_name = _automatic_name(self.model_size, self.dataset, self.experiment_type)
            self.__dict__["_named"] = False
        automatic = [word for word in (self.model_size, self.dataset, self.experiment_type) if word]
        self.tags = list(dict.fromkeys([*self.tags, *automatic]))

    def __setattr__(self, name: str, value: Any) -> None:
        if not self.__dict__.get("_made"):
            object.__setattr__(self, name, value)
            return
        if name not in FIELDS:
            raise BadArgument(f"ExperimentConfig has no {name!r}{_meant(name)}; put it into extra={{...}}")
        value = check(name, value)
        object.__setattr__(self, name, value)
        if name in _TWIN:
            object.__setattr__(self, _TWIN[name], value)
        if name == "experiment_name":
            self.__dict__["_named"] = value is not None

    # -- as plain values --------------------------------------------------------------------------------------------

    def to_dict(self, *, both_names: bool = False) -> dict[str, Any]:
        """What was said, `extra` beside the fields; what is None is left out.

        Args:
            both_names: the second name of a quantity as well (`max_iters` beside `num_iterations`).
        """
        known = {name: getattr(self, name) for name in FIELDS if both_names or name not in SAME.values()}
        extra = known.pop("extra")
        said = {name: value for name, value in known.items() if value is not None}
        return {**said, **{name: value for name, value in extra.items() if name not in said}}

    def replace(self, **changes: Any) -> ExperimentConfig:
        """A copy with some fields changed: an ablation of this one. A name that was made here is made anew.

        Raises:
            BadArgument: as the class itself.
        """
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        automatic = [word for word in (self.model_size, self.dataset, self.experiment_type) if word]
        values["tags"] = [word for word in self.tags if word not in automatic]
        values["extra"] = dict(self.extra)
        if not self.__dict__.get("_named"):
            values["experiment_name"] = None
        for name in changes:
            values[_TWIN.get(name, name)] = None
        unknown = [name for name in changes if name not in FIELDS]
        if unknown:
            raise BadArgument(f"ExperimentConfig has no {unknown[0]!r}{_meant(unknown[0])}; put it into extra={{...}}")
        return ExperimentConfig(**{**values, **changes})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, unknown: str = "refuse") -> ExperimentConfig:
        """Make a configuration of a dictionary.

        Args:
            unknown: "refuse" what is no field, or "keep" it in `extra` (logs of other programs).

        Raises:
            BadArgument: an unknown field, or a value that is not allowed.
        """
        strange = {str(name): value for name, value in values.items() if name not in FIELDS}
        if strange and unknown == "refuse":
            name = next(iter(strange))
            raise BadArgument(f"ExperimentConfig has no {name!r}{_meant(name)}; put it under extra")
        fitting: dict[str, Any] = {
            name: value for name, value in values.items() if name in FIELDS and value is not None
        }
        if strange:
            fitting["extra"] = {**check("extra", fitting.get("extra", {})), **strange}
        return cls(**fitting)

    # -- files ------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write YAML (`.yaml`, `.yml`) or JSON (`.json`), whole or not at all.

        Raises:
            BadArgument: another ending, or something in `extra` that such a file has no form for.
        """
        from lossbook.paths import replace_file

        where = os.fspath(path)
        values = {**self.to_dict(), **({"extra": self.extra} if self.extra else {})}
        values = {name: value for name, value in values.items() if name in FIELDS}
        try:
            if _ending(where) == ".json":
                import json

                # Infinity as Python's own reader takes it: null would lose a `grad_clip` that never clips.
                text = (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()
            else:
                import yaml

                try:
                    text = yaml.dump(values, Dumper=_dumper(), sort_keys=False, allow_unicode=True).encode()
                except yaml.YAMLError as error:
                    raise ValueError(f"{error.args[0]}: {_shown(error.args[-1])}") from None
        except (TypeError, ValueError, RecursionError) as error:
            if isinstance(error, BadArgument):
                raise
            raise BadArgument(
                f"{where}: extra has what a file cannot hold ({error}); keep numbers and texts there"
            ) from None
        os.makedirs(os.path.dirname(where) or ".", exist_ok=True)
        replace_file(where, text)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **changes: Any) -> ExperimentConfig:
        """Read a YAML or JSON file.

        Numbers such as `3e-4`, which YAML 1.1 takes for text, are numbers here.

        Args:
            changes: fields that replace what the file says.

        Raises:
            BadArgument: the file is not there or not whole, or has an unknown field or a value that is not allowed;
                the message begins with the file and the line.
        """
        where = os.fspath(path)
        values, lines = _read(where)
        for name, value in values.items():
            at = f"{where}:{lines.get(name, 1)}"
            if name not in FIELDS:
                raise BadArgument(f"{at}: there is no field {name!r}{_meant(name)}; put it under extra")
            if value is None:
                continue
            try:
                values[name] = check(name, value)
            except BadArgument as error:
                raise BadArgument(f"{at}: {error}") from None
        for name, other in SAME.items():
            first, second = values.get(name), values.get(other)
            if first is not None and second is not None and first != second:
                raise BadArgument(
                    f"{where}:{lines.get(other, 1)}: {name} and {other} are two names of one value, give one"
                )
        for name in changes:
            values.pop(_TWIN.get(name, name), None)
        return cls.from_dict({**values, **changes})

    # -- what follows from it ---------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.experiment_name or "experiment"

    @property
    def tokens_per_iteration(self) -> int | None:
        """Tokens that one process takes in one turn of the loop: batch size times context length."""
        if self.batch_size is None or self.context_length is None:
            return None
        return self.batch_size * self.context_length

    def estimate_parameters(self) -> int | None:
        """The number of parameters that this shape has; None where vocabulary, width or depth are not said.

        Biases, norms, embeddings and a tied head are counted as the architecture has them (see
        `lossbook.lm.shapes`). Without `architecture`, `rope_theta` or `num_kv_heads` mean "llama".
        """
        from lossbook.lm.shapes import estimate_parameters

        if self.vocab_size is None or self.d_model is None or self.num_layers is None:
            return None
        architecture = self.architecture or ("llama" if self.rope_theta or self.num_kv_heads else "gpt2")
        return estimate_parameters(
            architecture=architecture,
            vocab_size=self.vocab_size,
            d_model=self.d_model,
            num_layers=self.num_layers,
            num_heads=self.num_heads or 1,
            d_ff=self.d_ff,
            context_length=self.context_length or 0,
            num_kv_heads=self.num_kv_heads,
        )


FIELDS = tuple(one.name for one in fields(ExperimentConfig))

_names_of_a_second: tuple[str, dict[str, int]] = ("", {})
_naming = threading.Lock()


def _automatic_name(model_size: str | None, dataset: str | None, experiment_type: str) -> str:
    """`{model_size}_{dataset}_{experiment_type}_{timestamp}`; a second one within the second is numbered."""
    global _names_of_a_second
    parts = [part for part in (model_size, dataset, experiment_type) if part]
    with _naming:
        stamp = time.strftime("%Y%m%d_%H%M%S")
        if _names_of_a_second[0] != stamp:
            _names_of_a_second = (stamp, {})
        name = "_".join([*parts, stamp])
        count = _names_of_a_second[1][name] = _names_of_a_second[1].get(name, 0) + 1
    return name if count == 1 else f"{name}-{count}"


def _meant(name: str) -> str:
    """The fields that a wrong name may stand for, as part of a sentence."""
    close = nearest(str(name), FIELDS, 3)
    return f"; did you mean {' or '.join(close)}?" if close else f" (there are {', '.join(FIELDS)})"


# -- values -----------------------------------------------------------------------------------------------------------


def check(name: str, value: Any) -> Any:
    """The value as the field holds it.

    Raises:
        BadArgument: it has the wrong type or is out of range.
    """
    if value is None and name not in (
        "tags",
        "extra",
        "track_memory",
        "gradient_accumulation_steps",
        "experiment_type",
    ):
        return None
    if name in _WHOLE:
        number = _as_number(value)
        if number is None or (isinstance(number, float) and not number.is_integer()):
            raise BadArgument(f"{name} is a whole number, {_RANGES[name][4]}, not {_shown(value)}")
        return _in_range(name, int(number), value)
    if name in _NUMBERS:
        number = _as_number(value)
        if number is None:
            raise BadArgument(f"{name} is a number {_RANGES[name][4]}, not {_shown(value)}")
        return _in_range(name, number if isinstance(number, float) else _as_float(number), value)
    if name in _TEXTS:
        if isinstance(value, bool) or not isinstance(value, (str, int, float, os.PathLike)):
            raise BadArgument(f"{name} is a text, not {_shown(value)}")
        text = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
        if name == "architecture" and text not in ARCHITECTURES:
            raise BadArgument(f"architecture is one of {', '.join(ARCHITECTURES)}, not {value!r}")
        return text
    if name in _FLAGS:
        if not isinstance(value, bool):
            raise BadArgument(f"{name} is true or false, not {_shown(value)}")
        return value
    if name == "tags":
        words = [value] if isinstance(value, str) else value
        if not isinstance(words, (list, tuple, set)) or not all(isinstance(word, (str, int, float)) for word in words):
            raise BadArgument(f"tags is a list of words, not {_shown(value)}")
        return [str(word) for word in words]
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise BadArgument(f"extra is a mapping of names to values, not {_shown(value)}")
    return dict(value)


def _as_number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        # YAML 1.1 reads 3e-4 as text; shells and .env files give texts as well.
        digits = value.strip().replace("_", "")
        if digits in ("Infinity", "inf"):  # as our JSON has it; only `grad_clip` may be that
            return math.inf
        if not _NUMBER.match(digits):
            return None
        return int(digits) if len(digits) < 30 and digits.lstrip("+-").isdigit() else float(digits)
    if isinstance(value, int):
        return value
    try:
        return operator.index(value)  # a whole number of numpy's, whatever its size
    except (TypeError, ValueError, RuntimeError):
        pass
    try:
        return float(value) if hasattr(value, "__float__") else None
    except (TypeError, ValueError, RuntimeError):
        return None


def _as_float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _shown(value: Any) -> str:
    """A value within a message, which stays short."""
    text = "a number of thousands of digits" if isinstance(value, int) and abs(value) >> 512 else repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _in_range(name: str, number: Any, value: Any) -> Any:
    low, low_allowed, high, high_allowed, words = _RANGES[name]
    fits = (number > low or (low_allowed and number == low)) and (number < high or (high_allowed and number == high))
    if not fits:
        raise BadArgument(f"{name} must be {words}, not {_shown(value)}")
    return number


# -- files ------------------------------------------------------------------------------------------------------------


def _ending(path: str) -> str:
    ending = os.path.splitext(path)[1].lower()
    if ending not in (".yaml", ".yml", ".json"):
        raise BadArgument(f"{path}: a configuration file ends in .yaml, .yml or .json")
    return ending


def _read(path: str) -> tuple[dict[str, Any], dict[str, int]]:
    """The fields of a file, and the line of each."""
    ending = _ending(path)
    try:
        with open(path, "rb") as file:
            contents = file.read()
        text = contents.decode("utf-8-sig")
    except FileNotFoundError:
        raise BadArgument(f"there is no configuration file {path}") from None
    except UnicodeDecodeError as error:
        line = contents.count(b"\n", 0, error.start) + 1
        raise BadArgument(f"{path}:{line}: this is no UTF-8 text ({error.reason}); save it as UTF-8") from None
    except OSError as error:
        raise BadArgument(f"{path} cannot be read ({error.strerror})") from None
    try:
        return _read_json(path, text) if ending == ".json" else _read_yaml(path, text)
    except RecursionError:
        raise BadArgument(f"{path}:1: this is nested too deep for a configuration") from None


def _read_yaml(path: str, text: str) -> tuple[dict[str, Any], dict[str, int]]:
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            return {}, {}
        if not isinstance(node, yaml.MappingNode):
            raise BadArgument(
                f"{path}:1: a configuration is a mapping of fields to values, such as `learning_rate: 3e-4`"
            )
        lines = _lines(path, node)
        for key, value in node.value:
            if key.value == "extra":
                _resolve_numbers(value)
        values = yaml.SafeLoader("").construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else text.count("\n", 0, getattr(error, "position", 0)) + 1
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
        raise BadArgument(f"{path}:{line}: this is no YAML ({problem})") from None
    except ValueError as error:
        if isinstance(error, BadArgument):
            raise
        raise BadArgument(f"{path}:1: this is no YAML ({error})") from None  # a date such as 2026-13-45
    return {str(name): value for name, value in values.items()}, lines


def _lines(path: str, node: Any) -> dict[str, int]:
    """The line of each field of a composed mapping; a field that is there twice is refused."""
    lines: dict[str, int] = {}
    for key, _ in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in lines:
            raise BadArgument(f"{path}:{line}: {name} is given twice, first in line {lines[name]}")
        lines[name] = line
    return lines


def _resolve_numbers(node: Any, depth: int = 0) -> None:
    """Within `extra`, where no field says what is meant, make plain `3e-4` the number that YAML 1.2 takes it for."""
    if isinstance(node.value, str):
        if node.style is None and node.tag == "tag:yaml.org,2002:str" and _NUMBER.match(node.value):
            node.tag = "tag:yaml.org,2002:float"
    elif depth < 50:  # an alias may lead back to where it stands
        for one in node.value:
            _resolve_numbers(one[1] if isinstance(one, tuple) else one, depth + 1)


def _read_json(path: str, text: str) -> tuple[dict[str, Any], dict[str, int]]:
    import json

    import yaml

    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadArgument(f"{path}:{error.lineno}: this is no JSON ({error.msg})") from None
    except ValueError as error:  # a number of thousands of digits
        raise BadArgument(f"{path}:1: this is no JSON ({error})") from None
    if not isinstance(values, dict):
        raise BadArgument(f"{path}:1: a configuration is a mapping of fields to values")
    try:
        # JSON is YAML as well, but for tabs, and YAML's reader knows lines.
        return values, _lines(path, yaml.compose(text.replace("\t", " "), Loader=yaml.SafeLoader))
    except yaml.YAMLError:
        lines: dict[str, int] = {}
        for number, line in enumerate(text.splitlines(), 1):
            for matched in re.finditer(r'"((?:[^"\\]|\\.)*)"\s*:', line):
                lines.setdefault(matched[1], number)
        return values, lines


def _dumper() -> Any:
    """A YAML writer whose small numbers every YAML reader takes for numbers: `3.0e-04`, where `3e-04` would be text."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def represent(dumper: Any, number: float) -> Any:
        text = repr(number)
        if "e" in text and "." not in text:
            text = text.replace("e", ".0e")
        special = {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}
        return dumper.represent_scalar("tag:yaml.org,2002:float", special.get(text, text))

    def represent_text(dumper: Any, text: str) -> Any:
        # In quotes, because newer YAML readers take a plain 3e-4 for a number.
        style = "'" if _NUMBER.match(text) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(float, represent)
    Dumper.add_representer(str, represent_text)
    return Dumper
