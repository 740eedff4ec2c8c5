"""Makes a run's configuration plain: what a user passes becomes what JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lossbook.errors import BadArgument
from lossbook.redaction import mask_config
from lossbook.run.values import text_of


def plain_config(config: Any) -> dict[str, Any]:
    """A configuration as nested dictionaries of what JSON holds, secrets masked.

    Takes dictionaries, argparse namespaces, dataclasses, pydantic models and anything with attributes.

    Raises:
        BadArgument: it is none of these.
    """
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        for convert in ("to_dict", "model_dump", "_asdict", "flag_values_dict"):
            method = getattr(config, convert, None)
            if callable(method) and not isinstance(config, type):
                config = method()
                break
        else:
            if not hasattr(config, "__dict__") or isinstance(config, type):
                raise BadArgument(f"config is a dictionary, a namespace or a dataclass, not {type(config).__name__}")
            config = vars(config)
    masked: dict[str, Any] = mask_config(plain(config))
    return masked


def plain(value: Any, outer: tuple[Any, ...] = ()) -> Any:
    """`value` in the types that JSON has; what has no such form becomes its text."""
    if value is None or isinstance(value, (bool, str)):
        return text_of(value) if isinstance(value, str) else value
    if type(value) is int:
        return value if -(1 << 63) <= value < 1 << 64 else str(value)
    if isinstance(value, float):
        from lossbook.journal.line import encode_number

        return encode_number(float(value))
    if len(outer) > 50 or any(value is one for one in outer):
        return f"<{type(value).__name__}>"
    outer = (*outer, value)
    if isinstance(value, Mapping):
        return {text_of(key): plain(inner, outer) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(inner, outer) for inner in value]
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return {name: plain(getattr(value, name), outer) for name in value.__dataclass_fields__}
    if hasattr(value, "tolist") and getattr(value, "ndim", 0) <= 1 and getattr(value, "size", 0) != 0:
        listed = value.tolist
        if callable(listed):
            return plain(listed(), outer)
    inner = getattr(value, "value", None)
    if inner is not None and type(value).__module__ != "builtins" and isinstance(inner, (str, int, float)):
        return plain(inner, outer)
    return text_of(value)
