"""SPAM, Adam that expects spikes: gradients clipped by their own history, moments dropped now and then.

Huang et al. 2025, "SPAM: Spike-Aware Adam with Momentum Reset for Stable LLM Training", arXiv 2501.06842. It promises
that a step counts once, and that `state_dict` holds all of it: a resumed run resets when the whole one would.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lossbook.errors import BadArgument
from trainers.optimizers.groups import Group
from trainers.optimizers.kind import OptimizerKind, Option, Settings

#: Gradient norms that a z-score is taken over. None is taken before there are as many: they fall steeply at first.
WINDOW = 100
#: What is left of the first and of the second moment after a spike of the gradient norm.
DAMPED_FIRST, DAMPED_SECOND = 0.5, 0.9


class Spam(torch.optim.AdamW):
    """AdamW with spike-aware clipping, momentum reset and a cosine warm-up after each reset.

    With v the second moment before this step, each |g| is clipped to sqrt(theta * v); where v is 0 (at first, and
    after a reset) nothing is known, and nothing clipped. Every `interval` steps both moments and the count of their
    bias correction become 0, and the learning rate rises again over `warmup` steps as (1 - cos(pi * k / warmup)) / 2.
    It does not rise so at the beginning of training: that warm-up is the schedule's.

    Args:
        groups: from `parameter_groups`.
        theta: the largest g² over v that is no spike; 0: no clipping.
        interval: steps between resets; 0: none.
        warmup: steps of warm-up after a reset, at most `interval`.
        zscore: when the gradient's norm is this many standard deviations above the mean of the last 100, the first
            moment is halved and the second multiplied by 0.9 before the step; 0: never.
        adamw: `lr`, `betas`, `eps`, `fused` of torch.optim.AdamW.

    Raises:
        BadArgument: a number is out of its range.
    """

    def __init__(
        self,
        groups: list[Group],
        *,
        theta: float = 50.0,
        interval: int = 500,
        warmup: int = 150,
        zscore: float = 0.0,
        **adamw: Any,
    ) -> None:
        if not (0 <= theta < math.inf and 0 <= zscore < math.inf):
            raise BadArgument(f"spam_theta {theta} and spam_zscore {zscore} must be 0 or more")
        if interval < 0 or warmup < 0 or (interval and warmup > interval):
            raise BadArgument(
                f"spam_warmup {warmup} and spam_interval {interval} must be 0 or more, and the warm-up must be over "
                "before the next reset: make the interval longer"
            )
        super().__init__(groups, **adamw)
        # A fused AdamW leaves out a step with infinite gradients by itself, after ours were clipped and counted:
        # without this mark the gradient scaler does not call us at all then.
        self._step_supports_amp_scaling = False
        self.theta, self.interval, self.warmup, self.zscore = theta, interval, warmup, zscore
        self.steps = 0
        self.last_reset: int | None = None
        self._norms: Tensor | None = None
        self._norms_seen = 0
        self._observed: Tensor | None = None

    def observe_norm(self, norm: Tensor) -> None:
        """Take the norm of this step's gradient, 0-d, from before it was clipped as a whole: z-scores are of that."""
        self._observed = norm.detach()

    def warmth(self) -> float:
        """The share of the learning rate that the latest step had, above 0 and up to 1."""
        if self.last_reset is None or self.warmup == 0:
            return 1.0
        done = min(1.0, (self.steps - self.last_reset + 1) / self.warmup)
        return 0.5 * (1 - math.cos(math.pi * done))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters; their gradients are clipped in place."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.steps += 1
        parameters = [one for group in self.param_groups for one in group["params"] if one.grad is not None]
        moments = [self.state[one] for one in parameters if "exp_avg_sq" in self.state[one]]
        if self.zscore:
            self._damp(parameters, moments)
        if self.interval and self.steps % self.interval == 0:
            self.last_reset = self.steps
            for moment in moments:
                moment["exp_avg"].zero_()
                moment["exp_avg_sq"].zero_()
                moment["step"].zero_()
        if self.theta:
            for parameter in parameters:
                if "exp_avg_sq" in self.state[parameter]:
                    second = self.state[parameter]["exp_avg_sq"]
                    limit = torch.where(second > 0, (self.theta * second).sqrt(), math.inf).to(parameter.grad.dtype)
                    parameter.grad.clamp_(-limit, limit)
        rates = [group["lr"] for group in self.param_groups]
        try:
            for group in self.param_groups:
                group["lr"] = group["lr"] * self.warmth()
            super().step()
        finally:
            for group, rate in zip(self.param_groups, rates, strict=True):
                group["lr"] = rate
        return loss

    def _damp(self, parameters: list[Tensor], moments: list[dict[str, Tensor]]) -> None:
        """Weaken the moments where this gradient's norm is a spike among the last ones; nothing waits for a GPU."""
        norm = self._observed
        self._observed = None
        if norm is None:
            norm = torch.nn.utils.get_total_norm([one.grad for one in parameters if one.grad is not None])
        norm = norm.float()
        if self._norms is None:
            self._norms = torch.zeros(WINDOW, device=norm.device)
        self._norms = self._norms.to(norm.device)
        if self._norms_seen >= WINDOW:
            spread, mean = torch.std_mean(self._norms)
            spike = norm - mean > self.zscore * spread  # False for NaN
            for moment in moments:
                moment["exp_avg"].mul_(torch.where(spike, DAMPED_FIRST, 1.0))
                moment["exp_avg_sq"].mul_(torch.where(spike, DAMPED_SECOND, 1.0))
        # One NaN would blind the next hundred steps: the norm before stands in for it.
        norm = torch.where(norm.isfinite(), norm, self._norms[(self._norms_seen - 1) % WINDOW])
        self._norms[self._norms_seen % WINDOW] = norm
        self._norms_seen += 1

    def state_dict(self) -> dict[str, Any]:
        """As torch.optim.AdamW's, and under "spam" the counts and the window of norms."""
        norms = None if self._norms is None else self._norms.clone()
        counts = {"steps": self.steps, "last_reset": self.last_reset, "norms": norms, "norms_seen": self._norms_seen}
        return {**super().state_dict(), "spam": counts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from `state_dict`.

        Raises:
            BadArgument: it is another optimizer's.
        """
        if "spam" not in state_dict:
            raise BadArgument("this state is not of adamwspam: resume with the optimizer that it was saved by")
        super().load_state_dict(state_dict)
        counts = state_dict["spam"]
        self.steps, self.last_reset = counts["steps"], counts["last_reset"]
        self._norms = None if counts["norms"] is None else counts["norms"].clone()
        self._norms_seen = counts["norms_seen"]


_OPTIONS = (
    Option("spam_theta", 50.0, "the largest g²/v that is no spike; 0: no clipping"),
    Option("spam_interval", 500, "steps between resets of the moments; 0: none"),
    Option("spam_warmup", 150, "steps in which the learning rate rises again"),
    Option("spam_zscore", 0.0, "damp the moments from this z-score of the gradient norm on; 0: never"),
)


def _make(model: nn.Module, groups: list[Group], settings: Settings) -> Spam:
    own = {name.removeprefix("spam_"): value for name, value in settings.options.items()}
    return Spam(groups, **own, **settings.adam)


ADAMWSPAM = OptimizerKind("adamwspam", _make, _OPTIONS)
