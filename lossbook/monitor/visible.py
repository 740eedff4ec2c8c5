"""Which GPUs are this run's: what CUDA_VISIBLE_DEVICES and AMD's variables leave, in the order that torch counts them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_WHOLE = re.compile(r"\s*[+-]?\d+\s*\Z")


class Instance(NamedTuple):
    """A MIG instance: a part of a GPU that programs see as a GPU. `number` is the driver's, within its GPU."""

    number: int
    uuid: str


class Card(NamedTuple):
    """A GPU as the driver lists it. `instances` are its MIG instances; None where MIG is off."""

    number: int
    uuid: str
    instances: tuple[Instance, ...] | None = None


class Chosen(NamedTuple):
    """One GPU of the run: a card, or one MIG instance of it."""

    card: int
    instance: int | None = None


def nvidia_devices(cards: Sequence[Card], wanted: str | None) -> list[Chosen]:
    """The GPUs that CUDA shows a program, in its order.

    A list ends at its first entry that names nothing, as CUDA has it. A program sees one MIG instance at the most
    unless it names several, and none of the other GPUs beside it:
    https://docs.nvidia.com/datacenter/tesla/mig-user-guide/#cuda-visible-devices

    Args:
        wanted: the value of CUDA_VISIBLE_DEVICES; None where it is not set.
    """
    if wanted is None:
        for card in cards:
            if card.instances:
                return [Chosen(card.number, card.instances[0].number)]
        return [Chosen(card.number) for card in cards if card.instances is None]
    chosen: list[Chosen] = []
    for word in wanted.split(","):
        found = _named(cards, word.strip())
        if found is None or found in chosen:
            # One that comes twice leaves CUDA with no device at all; here what came before still says most.
            break
        chosen.append(found)
    return chosen


def _named(cards: Sequence[Card], word: str) -> Chosen | None:
    if _WHOLE.match(word):
        card = next((one for one in cards if one.number == int(word)), None)
        if card is None or card.instances == ():
            return None
        return Chosen(card.number, card.instances[0].number if card.instances else None)
    # `MIG-GPU-<uuid>/<GPU instance>/<compute instance>` is the older form of a MIG instance's name.
    if word.startswith("MIG-"):
        for card in cards:
            for instance in card.instances or ():
                if instance.uuid == word or (len(word) >= len("MIG-") + 8 and instance.uuid.startswith(word)):
                    return Chosen(card.number, instance.number)
        return None
    alike = [card for card in cards if word and card.uuid.startswith(word)]
    # The beginning of a UUID will do, as long as it means one GPU.
    return Chosen(alike[0].number) if len(alike) == 1 and alike[0].instances is None else None


def amd_devices(uuids: Sequence[str], environment: Mapping[str, str]) -> list[int]:
    """The numbers of the GPUs that ROCm shows a program, in its order.

    ROCR_VISIBLE_DEVICES chooses among all of them; HIP_VISIBLE_DEVICES, or else CUDA_VISIBLE_DEVICES, among what is left:
    https://rocm.docs.amd.com/en/latest/conceptual/gpu-isolation.html

    Args:
        uuids: of each GPU in the driver's order; empty text where one has none.
    """
    left = _kept(list(range(len(uuids))), uuids, environment.get("ROCR_VISIBLE_DEVICES"))
    inner = environment.get("HIP_VISIBLE_DEVICES", environment.get("CUDA_VISIBLE_DEVICES"))
    return _kept(left, [uuids[number] for number in left], inner)


def _kept(numbers: list[int], uuids: Sequence[str], wanted: str | None) -> list[int]:
    if wanted is None:
        return numbers
    kept: list[int] = []
    for word in (one.strip() for one in wanted.split(",")):
        if _WHOLE.match(word):
            at = int(word)
        else:
            at = next((place for place, uuid in enumerate(uuids) if word and uuid.lower() == word.lower()), -1)
        if not 0 <= at < len(numbers):
            break
        kept.append(numbers[at])
    return kept
