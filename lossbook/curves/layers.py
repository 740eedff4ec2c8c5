"""Finds the series that belong together: names that differ in a layer's number, or in a parameter's path."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lossbook.metrics import role_of

#: Words that a parameter's path ends in, or is made of, whatever the model.
PARAMETER_WORDS = frozenset((
    "weight", "bias", "kernel", "scale", "embedding", "gamma", "beta", "wte", "wpe", "lm_head", "ln_f", "embed_tokens",
))  # fmt: skip
_NUMBER = re.compile(r"(?<![A-Za-z0-9])(\d+)(?![A-Za-z0-9])|(?<=[A-Za-z_])(\d+)(?=\Z|[/.])")
_DIGITS = re.compile(r"(\d+)")
#: A family has so many members at the least.
_LEAST = 2


@dataclass(frozen=True)
class LayerMember:
    """One series of a family; `label` is what it has of its own, `index` that as a number where it is one."""

    key: str
    label: str
    index: int | None


@dataclass(frozen=True)
class LayerFamily:
    """Series that make one heat map.

    Attributes:
        pattern: their name, with `*` where a layer's number stands or `**` for a parameter's path.
        kind: "layer" or "path".
        members: in natural order: 2 before 10.
    """

    pattern: str
    kind: str
    members: tuple[LayerMember, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of its series."""
        return tuple(member.key for member in self.members)


def layer_families(keys: Iterable[str]) -> list[LayerFamily]:
    """Find the per-layer series among a run's keys.

    `layers/0/attn/grad_norm` and `layers/1/attn/grad_norm` are one family, `layers/*/attn/grad_norm`. All of
    `gradient/h.3.mlp.c_fc.weight` and the like are one as well, `gradient/**`; a key may be in one family of each kind.
    The machine's own series (`system.`, `gpu/`) are none.

    Returns:
        Families of two series at the least, in natural order of their patterns.
    """
    layers: dict[str, list[LayerMember]] = {}
    paths: dict[str, list[LayerMember]] = {}
    for key in dict.fromkeys(keys):
        if role_of(key) == "machine" or key.startswith("memory/"):
            continue
        for found in _NUMBER.finditer(key):
            group = 1 if found[1] is not None else 2
            pattern = f"{key[: found.start(group)]}*{key[found.end(group) :]}"
            layers.setdefault(pattern, []).append(LayerMember(key, found[group], int(found[group])))
        prefix, separator, path = key.partition("/")
        if separator and _is_parameter(path):
            paths.setdefault(f"{prefix}/**", []).append(LayerMember(key, path, None))
    families = [LayerFamily(pattern, "path", _ordered(members)) for pattern, members in paths.items()]
    families += [LayerFamily(pattern, "layer", _ordered(own)) for pattern, own in _one_each(layers).items()]
    wide = [family for family in families if len(family.members) >= _LEAST]
    return sorted(wide, key=lambda family: (natural_order(family.pattern), family.kind))


def natural_order(text: str) -> tuple[tuple[int, int, str], ...]:
    """A key by which names sort as people sort them: 2 before 10."""
    return tuple(
        (0, int(piece), piece) if piece.isascii() and piece.isdigit() else (1, 0, piece)
        for piece in _DIGITS.split(text)
        if piece
    )


def _is_parameter(path: str) -> bool:
    words = re.split(r"[./]", path)
    return len(words) > 1 and (words[-1] in PARAMETER_WORDS or any(word in PARAMETER_WORDS for word in words))


def _one_each(patterns: dict[str, list[LayerMember]]) -> dict[str, list[LayerMember]]:
    """Of a name with several numbers, the number that varies over most names is its layer's."""
    best: dict[str, str] = {}
    for pattern, members in patterns.items():
        for member in members:
            known = best.get(member.key)
            # The first number wins among equals: the layer stands before the head.
            if known is None or len(members) > len(patterns[known]):
                best[member.key] = pattern
    chosen: dict[str, list[LayerMember]] = {}
    for pattern, members in patterns.items():
        own = [member for member in members if best[member.key] == pattern]
        if own:
            chosen[pattern] = own
    return chosen


def _ordered(members: list[LayerMember]) -> tuple[LayerMember, ...]:
    return tuple(sorted(members, key=lambda member: (natural_order(member.label), member.key)))
