"""Pruning while training: which weights are zero, from when on, and that they stay zero.

A mask is the weights themselves being zero, so the forward pass, evaluation, checkpoints and exports use it without
knowing of it. What was pruned stays so: its gradient and its moments are zero as well. `sparsity()` counts zeros, it
does not report what was planned.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from lossbook.errors import BadArgument
from trainers.optimizers.groups import hidden_matrices, named_parameters

METHODS = ("none", "magnitude", "movement", "state")
VARIANTS = tuple(f"b{number}" for number in range(10))
#: Scores that say about where a threshold is. Of a million, a share is right to a twentieth of a percent.
SAMPLE = 1 << 20
#: How many of its standard deviations a share may be off before the threshold is not between the two scores.
DEVIATIONS = 5
#: How much more than its share the deepest layer is pruned under b4, and how much less the first one.
DEPTH_SPREAD = 0.3
#: No layer is pruned beyond this for the sake of its depth: an empty one would cut the model in two.
MOST_OF_A_LAYER = 0.99
#: Keeps a quotient finite where a second moment is zero.
_TINY = 1e-12
#: What torch calls the two moments of Adam.
_MOMENTS = ("exp_avg", "exp_avg_sq")

Score = Callable[[Tensor, Tensor, Tensor], Tensor]


def _magnitude(weight: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return weight.abs()


def _magnitude_by_momentum_ratio(weight: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return (weight * first).abs() * weight.abs() / (second.sqrt() + _TINY)


def _magnitude_by_momentum(weight: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return weight.abs() * first.abs().sqrt()


def _momentum_ratio_with_magnitude(weight: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return weight.sign() * first / (second.sqrt() + _TINY) + 0.1 * weight.abs()


def _magnitude_by_momentum_and_ratio(weight: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return weight.abs() * first.abs().sqrt() * (first.square() / (second + _TINY)).sqrt()


def _magnitude_by_variance(weight: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return weight.abs() * second.sqrt().sqrt()


def _magnitude_by_variance_in_half(weight: Tensor, first: Tensor, second: Tensor) -> Tensor:
    # bfloat16 rather than float16: a second moment of 1e-9 would be zero in that.
    return _magnitude_by_variance(weight.bfloat16(), first, second.bfloat16()).float()


#: The score of a weight w from the moments m and v of AdamW; the lowest are pruned.
SCORES: dict[str, Score] = {
    "b0": _magnitude_by_momentum_ratio,  # |w m| |w| / sqrt(v)
    "b1": _magnitude,  # |w|
    "b2": _magnitude,
    "b3": _magnitude_by_momentum,  # |w| sqrt|m|
    "b4": _magnitude_by_momentum,  # and deep layers are pruned more
    "b5": _momentum_ratio_with_magnitude,  # sign(w) m / sqrt(v) + 0.1 |w|
    "b6": _magnitude_by_momentum_and_ratio,  # |w| sqrt|m| sqrt(m^2 / v)
    "b7": _magnitude_by_variance,  # |w| v^(1/4)
    "b8": _magnitude_by_variance_in_half,
    "b9": _magnitude_by_variance,  # compiled
}


class Pruner:
    """Takes weights away by a schedule and keeps them away.

    From `warmup_steps` on, every `frequency` steps and at `ramp_end`, the share of weights that are zero becomes
    target * p³ (movement: target * p), p being the share of the ramp that is done. The lowest scores over all layers
    go, one threshold for all; what is gone does not come back. Masks do not depend on the number of processes: what
    is drawn by lot is seeded by the step, and under torch.distributed all ranks take rank 0's masks, so `step` must
    be called on every rank.

    Call `mask_gradients()` after the backward pass and before the gradient is clipped, so that its norm is that of
    the weights that are left (the optimizer's own step masks them in any case), and `step()` after the optimizer's.

    Args:
        method: "none", "magnitude" (|w|; Zhu & Gupta, arXiv 1710.01878), "movement" (w (w - w0), w0 the weights now;
            after Sanh et al., arXiv 2005.07683), or "state" (by the optimizer's moments, see `SCORES`).
        target: share of the prunable weights that are zero in the end, from 0 to below 1.
        variant: the score of the method "state".
        include_embeddings: prune embeddings and heads as well, tied or not.

    Raises:
        BadArgument: an argument is out of its range, or `optimizer` has no moments for the method "state".
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        method: str,
        target: float,
        warmup_steps: int,
        ramp_end: int,
        frequency: int = 50,
        variant: str = "b0",
        include_embeddings: bool = False,
    ) -> None:
        if method not in METHODS:
            raise BadArgument(f"there is no pruning method {method!r}: use one of {', '.join(METHODS)}")
        if variant not in VARIANTS:
            raise BadArgument(f"there is no pruning variant {variant!r}: use one of {', '.join(VARIANTS)}")
        if not 0 <= target < 1:
            raise BadArgument(f"the sparsity to reach must be a share from 0 to below 1, not {target}")
        if frequency < 1 or warmup_steps < 0:
            raise BadArgument(
                f"pruning every {frequency} steps from step {warmup_steps} on: use 1 or more, and 0 or more"
            )
        if method != "none" and ramp_end <= warmup_steps:
            raise BadArgument(f"pruning must end after it begins: step {ramp_end} is not after {warmup_steps}")
        # SGD and Muon keep a first moment at best.
        if method == "state" and not isinstance(optimizer, torch.optim.Adam):
            raise BadArgument(
                f"state pruning scores weights by the two moments of Adam, which {type(optimizer).__name__} does not "
                "have: use adamwprune, or prune by magnitude or movement"
            )
        self.method, self.target, self.variant, self.frequency = method, target, variant, frequency
        self.warmup_steps, self.ramp_end = warmup_steps, ramp_end
        self.reached = 0.0  # the share that was scheduled when the masks were last made
        self.optimizer = optimizer
        self.parameters: dict[str, nn.Parameter] = hidden_matrices(model)
        if include_embeddings:
            self.parameters = {name: one for name, one in named_parameters(model).items() if one.dim() >= 2}
        if method != "none" and not self.parameters:
            raise BadArgument("this model has no matrix that could be pruned: train it without pruning")
        self.masks: dict[str, Tensor] = {}  # True: the weight lives; none before the first pruning
        self.initial: dict[str, Tensor] = {}
        if method == "movement":
            self.initial = {name: one.detach().clone() for name, one in self.parameters.items()}
        self._score = SCORES[variant]
        if method == "state" and variant == "b9":
            self._score = _compiled(self._score, next(iter(self.parameters.values())).device)
        optimizer.register_step_pre_hook(lambda *_: self.mask_gradients())

    def scheduled_sparsity(self, step: int) -> float:
        """The share of weights that should be zero after `step` steps, were it pruned at each of them."""
        if self.method == "none" or step <= self.warmup_steps:
            return 0.0
        done = min(1.0, (step - self.warmup_steps) / (self.ramp_end - self.warmup_steps))
        return self.target * (done if self.method == "movement" else done**3)

    @torch.no_grad()
    def step(self, step: int) -> None:
        """Prune when it is time, and keep at zero what is pruned; after the optimizer's update number `step`."""
        wanted = self.scheduled_sparsity(step)
        due = step >= self.ramp_end or (step - self.warmup_steps) % self.frequency == 0
        if due and wanted > self.reached:
            self._prune(wanted, step)
            self.reached = wanted
        self.apply_masks()

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Zero the gradients of pruned weights."""
        for name, mask in self.masks.items():
            grad = self.parameters[name].grad
            if grad is not None:
                grad.mul_(mask)

    @torch.no_grad()
    def apply_masks(self) -> None:
        """Zero the pruned weights, and all that the optimizer remembers of them."""
        for name, mask in self.masks.items():
            parameter = self.parameters[name]
            parameter.mul_(mask)
            # .get: a look at a parameter without state would make one, which the optimizer takes for a state begun.
            for kept in self.optimizer.state.get(parameter, {}).values():
                if isinstance(kept, Tensor) and kept.shape == parameter.shape:
                    kept.mul_(mask)

    @torch.no_grad()
    def sparsity(self) -> float:
        """The measured share of zeros among the weights that can be pruned; waits for the device."""
        if not self.parameters:
            return 0.0
        alive = torch.stack([one.count_nonzero() for one in self.parameters.values()]).sum()
        return 1.0 - float(alive) / sum(one.numel() for one in self.parameters.values())

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold: tensors and plain values."""
        return {
            "method": self.method,
            "reached": self.reached,
            "masks": {name: mask.clone() for name, mask in self.masks.items()},
            "initial": dict(self.initial),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`, and prune the weights as it says.

        Raises:
            BadArgument: it is of another method or another model.
        """
        if state["method"] != self.method:
            raise BadArgument(
                f"this run was pruned by {state['method']}, which cannot become {self.method}: begin a new run"
            )
        for kind in ("masks", "initial"):
            for name, kept in state[kind].items():
                if name not in self.parameters or self.parameters[name].shape != kept.shape:
                    raise BadArgument(f"the state of pruning is of another model: {name} does not fit")
        self.reached = state["reached"]
        device = {name: one.device for name, one in self.parameters.items()}
        self.masks = {name: mask.to(device[name], copy=True) for name, mask in state["masks"].items()}
        self.initial = {name: one.to(device[name], copy=True) for name, one in state["initial"].items()}
        self.apply_masks()

    def _prune(self, share: float, step: int) -> None:
        """Make the masks so that `share` of the weights are zero."""
        if not self.masks:
            self.masks = {name: torch.ones_like(one, dtype=torch.bool) for name, one in self.parameters.items()}
        # On the CPU and seeded by the step: every device and every rank draws the same.
        draw = torch.Generator().manual_seed(step)
        for names, share_of_these in self._layers(share):
            found = self._threshold(names, share_of_these, draw)
            if found is None:
                continue  # as much as that is pruned already
            threshold, share_of_level = found
            for name in names:
                scores = self._scores(name)
                gone = scores < threshold
                ties = (scores == threshold).nonzero().flatten()
                chosen = torch.randperm(len(ties), generator=draw)[: round(share_of_level * len(ties))]
                gone[ties[chosen.to(ties.device)]] = True
                self.masks[name] &= ~gone.view_as(self.masks[name])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for mask in self.masks.values():
                torch.distributed.broadcast(mask.view(torch.uint8), 0)

    def _threshold(self, names: list[str], share: float, draw: torch.Generator) -> tuple[Tensor, float] | None:
        """The score, 0-d, below which `share` of the weights are, and the share of those just at it that go too.

        The k-th smallest of a hundred million is slow. A sample says between which two scores it must be, and of the
        half percent of scores between these the k-th is exact.
        """
        total = sum(self.parameters[name].numel() for name in names)
        count = round(share * total)
        low, high = -torch.inf, torch.inf
        if total > SAMPLE:
            sample = torch.cat([self._scores(name, places) for name, places in self._sample(names, draw)]).sort().values
            middle, margin = count / total * len(sample), DEVIATIONS * 0.5 * math.sqrt(len(sample))
            if (first := int(middle - margin)) >= 0:
                low = float(sample[first])
            if (last := int(middle + margin) + 1) < len(sample):
                high = float(sample[last])
        near = []
        for name in names:
            scores = self._scores(name)
            near.append(scores[(scores >= low) & (scores <= high) & (scores > -torch.inf)])
            count -= int(((scores < low) | (scores == -torch.inf)).sum())
        between = torch.cat(near)
        count = min(count, len(between))
        if count <= 0:
            return None
        threshold = between.kthvalue(count).values
        # Scores can be equal, above all in half precision: of those at the threshold only so many go.
        below, level = (between < threshold).sum(), (between == threshold).sum()
        return threshold, float((count - below) / level)

    def _scores(self, name: str, places: Tensor | None = None) -> Tensor:
        """Scores of a parameter's weights, or of those at `places`, shape (n,), float32; -inf where one is pruned."""
        parameter = self.parameters[name]

        def at(tensor: Tensor) -> Tensor:
            flat = tensor.detach().flatten()
            return flat if places is None else flat[places]

        weight = at(parameter).float()
        if self.method == "movement":
            scores = weight * (weight - at(self.initial[name]))
        elif self.method == "magnitude":
            scores = weight.abs()
        else:
            kept = self.optimizer.state.get(parameter, {})
            first, second = (at(kept[key]) if key in kept else torch.zeros_like(weight) for key in _MOMENTS)
            scores = self._score(weight, first.float(), second.float())
        return scores.masked_fill(~at(self.masks[name]), -torch.inf)

    def _sample(self, names: list[str], draw: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        """Places to take scores from, as many in each layer as is its part of the weights."""
        total = sum(self.parameters[name].numel() for name in names)
        for name in names:
            size = self.parameters[name].numel()
            places = torch.randint(size, (max(1, round(SAMPLE * size / total)),), generator=draw)
            yield name, places.to(self.parameters[name].device)

    def _layers(self, share: float) -> list[tuple[list[str], float]]:
        """Which parameters have a threshold together, and the share of each such lot that is to go."""
        if self.method != "state" or self.variant != "b4":
            return [(list(self.parameters), share)]
        lots: dict[int, list[str]] = {}
        for name in self.parameters:
            number = re.search(r"(?:^|\.)(\d+)\.", name)  # blocks.7.up.weight
            lots.setdefault(int(number[1]) if number else -1, []).append(name)
        depths = sorted(depth for depth in lots if depth >= 0)
        scales = {
            depth: 1 - DEPTH_SPREAD + 2 * DEPTH_SPREAD * at / max(1, len(depths) - 1) for at, depth in enumerate(depths)
        }
        if len(depths) < 2:
            scales = {}
        sizes = {depth: sum(self.parameters[name].numel() for name in names) for depth, names in lots.items()}

        def shares(factor: float) -> dict[int, float]:
            most = max(MOST_OF_A_LAYER, share)
            return {depth: min(most, factor * share * scales.get(depth, 1.0)) for depth in lots}

        # Where layers differ in size, or one would be emptied, the scales alone would miss the target: mend by a factor.
        low, high = 0.0, 10.0
        for _ in range(50):
            middle = (low + high) / 2
            reached = sum(part * sizes[depth] for depth, part in shares(middle).items())
            low, high = (middle, high) if reached < share * sum(sizes.values()) else (low, middle)
        return [(lots[depth], part) for depth, part in shares(high).items()]


def _compiled(score: Score, device: torch.device) -> Score:
    """The score compiled for tensors of any length; tried once, so that it does not fail in the middle of a run."""
    compiled: Score = torch.compile(score, dynamic=True)
    trial = torch.ones(8, device=device)
    try:
        with torch.no_grad():  # as it is called: another mode is compiled anew
            compiled(trial, trial, trial)
    except Exception as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadArgument(f"variant b9 could not be compiled here ({why}): use b7, which has the same scores") from None
    return compiled
