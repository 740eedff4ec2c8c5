"""`ExperimentConfig`: what a language-model experiment was run with, checked when it is made.

One class for two vocabularies: `learning_rate` and `max_learning_rate` are one quantity, and so are `num_iterations`
and `max_iters`. A file is refused with its line and with what is allowed there.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from lossbook.errors import BadArgument
from lossbook.lm.config_fields import SAME, TWIN, check, meant


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
    extra: dict[str, object] = field(default_factory=dict)

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
            if value is not None or name not in TWIN:
                setattr(self, name, value)
        if self.experiment_name is None:
            self.experiment_name = _automatic_name(self.model_size, self.dataset, self.experiment_type)
            self.__dict__["_named"] = False
        automatic = [word for word in (self.model_size, self.dataset, self.experiment_type) if word]
        self.tags = list(dict.fromkeys([*self.tags, *automatic]))

    def __setattr__(self, name: str, value: object) -> None:
        if not self.__dict__.get("_made"):
            object.__setattr__(self, name, value)
            return
        if name not in FIELDS:
            raise BadArgument(f"ExperimentConfig has no {name!r}{meant(name, FIELDS)}; put it into extra={{...}}")
        value = check(name, value)
        object.__setattr__(self, name, value)
        if name in TWIN:
            object.__setattr__(self, TWIN[name], value)
        if name == "experiment_name":
            self.__dict__["_named"] = value is not None

    # -- as plain values --------------------------------------------------------------------------------------------

    def to_dict(self, *, both_names: bool = False) -> dict[str, object]:
        """What was said, `extra` beside the fields; what is None is left out.

        Args:
            both_names: the second name of a quantity as well (`max_iters` beside `num_iterations`).
        """
        known = {name: getattr(self, name) for name in FIELDS if both_names or name not in SAME.values()}
        extra = known.pop("extra")
        said = {name: value for name, value in known.items() if value is not None}
        return {**said, **{name: value for name, value in extra.items() if name not in said}}

    def replace(self, **changes: object) -> ExperimentConfig:
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
            values[TWIN.get(name, name)] = None
        unknown = [name for name in changes if name not in FIELDS]
        if unknown:
            raise BadArgument(
                f"ExperimentConfig has no {unknown[0]!r}{meant(unknown[0], FIELDS)}; put it into extra={{...}}"
            )
        return ExperimentConfig(**{**values, **changes})

    @classmethod
    def from_dict(cls, values: Mapping[str, object], *, unknown: str = "refuse") -> ExperimentConfig:
        """Make a configuration of a dictionary.

        Args:
            unknown: "refuse" what is no field, or "keep" it in `extra` (logs of other programs).

        Raises:
            BadArgument: an unknown field, or a value that is not allowed.
        """
        strange = {str(name): value for name, value in values.items() if name not in FIELDS}
        if strange and unknown == "refuse":
            name = next(iter(strange))
            raise BadArgument(f"ExperimentConfig has no {name!r}{meant(name, FIELDS)}; put it under extra")
        fitting: dict[str, Any] = {
            name: value for name, value in values.items() if name in FIELDS and value is not None
        }
        if strange:
            extra = check("extra", fitting.get("extra", {}))
            fitting["extra"] = {**(extra if isinstance(extra, dict) else {}), **strange}
        return cls(**fitting)

    # -- files ------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write YAML (`.yaml`, `.yml`) or JSON (`.json`), whole or not at all.

        Raises:
            BadArgument: another ending, or something in `extra` that such a file has no form for.
        """
        from lossbook.lm.config_file import write_fields

        values: dict[str, object] = {**self.to_dict(), **({"extra": self.extra} if self.extra else {})}
        write_fields(os.fspath(path), {name: value for name, value in values.items() if name in FIELDS})

    @classmethod
    def load(cls, path: str | os.PathLike[str], **changes: object) -> ExperimentConfig:
        """Read a YAML or JSON file.

        Numbers such as `3e-4`, which YAML 1.1 takes for text, are numbers here.

        Args:
            changes: fields that replace what the file says.

        Raises:
            BadArgument: the file is not there or not whole, or has an unknown field or a value that is not allowed;
                the message begins with the file and the line.
        """
        from lossbook.lm.config_file import read_fields

        where = os.fspath(path)
        values, lines = read_fields(where)
        for name, value in values.items():
            at = f"{where}:{lines.get(name, 1)}"
            if name not in FIELDS:
                raise BadArgument(f"{at}: there is no field {name!r}{meant(name, FIELDS)}; put it under extra")
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
            values.pop(TWIN.get(name, name), None)
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

        Biases, norms, embeddings and a tied head are counted as the architecture has them (see `lossbook.lm.shapes`),
        learned positions where the context length is said. Without `architecture`, `rope_theta` or `num_kv_heads` mean "llama".
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
            context_length=self.context_length,
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
