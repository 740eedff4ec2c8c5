"""Which parameters of a model are what: matrices that decay, vectors that do not, embeddings, heads, hidden matrices.

It looks at the model alone, never at the device or at how many processes train it, so that a run has the same groups
everywhere. Wrappers (DistributedDataParallel, torch.compile) change nothing.
"""

from __future__ import annotations

from typing import Any

from torch import nn

#: What the layer that predicts tokens is called where it is not tied to the embedding.
HEADS = frozenset({"head", "lm_head", "unembedding"})
#: What wrappers put before a parameter's name.
_WRAPPERS = ("module.", "_orig_mod.")

Group = dict[str, Any]


def named_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that train, each once (a tied one under its first name), without the prefixes of wrappers."""
    return {_plain(name): one for name, one in model.named_parameters() if one.requires_grad}


def hidden_matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """The matrices inside the model: those with two dimensions that are no embedding and no head, tied or not."""
    outside: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) or _plain(name).rpartition(".")[2] in HEADS:
            outside.update(id(one) for one in module.parameters())
    return {name: one for name, one in named_parameters(model).items() if one.dim() == 2 and id(one) not in outside}


def parameter_groups(model: nn.Module, weight_decay: float) -> list[Group]:
    """Groups for an optimizer: hidden matrices and other matrices, which decay, and vectors, which do not.

    A bias or the gain of a norm has no reason to be small, so only what has two dimensions or more decays. Groups
    that would be empty are left out; each carries its `kind`: "hidden", "matrices" or "vectors".
    """
    inside = {id(one) for one in hidden_matrices(model).values()}
    groups: dict[str, Group] = {
        "hidden": {"params": [], "kind": "hidden", "weight_decay": weight_decay},
        "matrices": {"params": [], "kind": "matrices", "weight_decay": weight_decay},
        "vectors": {"params": [], "kind": "vectors", "weight_decay": 0.0},
    }
    for parameter in named_parameters(model).values():
        kind = "hidden" if id(parameter) in inside else "matrices" if parameter.dim() >= 2 else "vectors"
        groups[kind]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def _plain(name: str) -> str:
    while name.startswith(_WRAPPERS):
        name = name.partition(".")[2]
    return name
