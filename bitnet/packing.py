"""Ternary weights on the disk: five to a byte, and back without a difference.

3^5 = 243 fits a byte, so a weight takes 1.6 bits, where its information is log2(3) = 1.585 at the most.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bitnet.model import SIZES, BitNet
from trainers import checkpoint

_PLACES = torch.tensor([1, 3, 9, 27, 81], dtype=torch.int32)


@dataclass(frozen=True)
class PackedSize:
    """What a packed model takes.

    Attributes:
        weights: how many are ternary.
        zero_share: how many of them are 0, from 0 to 1.
        packed_bytes: of their codes and scales.
        other_parameters: in full precision: embeddings, QDyT, quantisers.
        file_bytes: of the whole file, measured.
        full_bytes: of all parameters as 32-bit floats.
    """

    weights: int
    zero_share: float
    packed_bytes: int
    other_parameters: int
    file_bytes: int
    full_bytes: int

    @property
    def bits_per_weight(self) -> float:
        """Of a ternary weight, its share of the scales included."""
        return 8 * self.packed_bytes / self.weights

    @property
    def bits_per_parameter(self) -> float:
        """Of any parameter, measured by the file."""
        return 8 * self.file_bytes / (self.weights + self.other_parameters)

    def describe(self, path: Path) -> str:
        """The same in a sentence; `path` is the file's."""
        return (
            f"{self.weights:,} ternary weights in {self.packed_bytes:,} bytes: {self.bits_per_weight:.3f} bits a weight, "
            f"{self.zero_share:.1%} of them 0; with {self.other_parameters:,} other parameters in full precision "
            f"{path.name} has {self.file_bytes:,} bytes, {self.bits_per_parameter:.2f} bits a parameter "
            f"({self.full_bytes:,} bytes in 32-bit floats)"
        )


def pack(codes: Tensor) -> Tensor:
    """Codes of -1, 0 and 1, any shape, as bytes: uint8, shape (ceil(n / 5),)."""
    digits = codes.flatten().to(torch.int32) + 1
    padded = torch.nn.functional.pad(digits, (0, -len(digits) % 5))
    return (padded.view(-1, 5) * _PLACES).sum(1).to(torch.uint8)


def unpack(packed: Tensor, shape: torch.Size | list[int]) -> Tensor:
    """What `pack` was given, int8."""
    digits = packed.to(torch.int32).unsqueeze(1) // _PLACES % 3 - 1
    return digits.flatten()[: torch.Size(shape).numel()].view(shape).to(torch.int8)


def save_packed(path: Path, model: BitNet, made_with: dict[str, Any]) -> PackedSize:
    """Write the model with all of its layers ternary.

    Args:
        made_with: model_size, vocabulary, length and causal, as `load_packed` makes the model again, and whatever
            else of plain values is to be kept.

    Raises:
        CheckpointError: it could not be written.
    """
    layers: dict[str, Any] = {}
    weights, zeros, packed_bytes = 0, 0, 0
    for name, layer in model.bit_linears():
        codes, scale = (one.cpu() for one in layer.codes())
        packed = pack(codes)
        layers[name] = {"codes": packed, "scale": scale, "shape": list(codes.shape)}
        weights += codes.numel()
        zeros += int((codes == 0).sum())
        packed_bytes += packed.nbytes + scale.nbytes
    ternary = {f"{name}.weight" for name in layers}
    rest = {name: value.cpu() for name, value in model.state_dict().items() if name not in ternary}
    checkpoint.save(path, {"model": rest, "ternary": layers, "warmth": model.qdyt.warmth, "made_with": made_with})
    others = sum(value.numel() for value in rest.values())
    return PackedSize(weights, zeros / weights, packed_bytes, others, path.stat().st_size, 4 * model.parameter_count())


def load_packed(path: Path) -> BitNet:
    """Read a packed model, ready to be evaluated: its logits are those of the model that was saved, bit for bit.

    Raises:
        CheckpointError: it is not there, or is no packed model.
    """
    state = checkpoint.load(path)
    if "ternary" not in state:
        raise checkpoint.CheckpointError(f"{path} is no packed model: name the ternary.pt that a training ends with")
    made = state["made_with"]
    model = BitNet(SIZES[made["model_size"]], made["vocabulary"], made["length"], causal=made["causal"])
    for name, layer in model.bit_linears():
        kept = state["ternary"][name]
        state["model"][f"{name}.weight"] = unpack(kept["codes"], kept["shape"]) * kept["scale"]
        layer.packed = True
    model.load_state_dict(state["model"])
    model.quantise_blocks(range(len(model.blocks)))
    model.set_warmth(state["warmth"])
    model.eval()
    return model
