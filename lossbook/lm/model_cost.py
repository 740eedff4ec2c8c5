"""What a model costs to train: its parameters, the FLOPs of a token, and how much of the device's peak that is."""

from __future__ import annotations

import sys
from collections.abc import Callable

from lossbook.errors import BadArgument, LossbookError
from lossbook.lm.config import ExperimentConfig
from lossbook.lm.memory import model_parameters
from lossbook.lm.throughput import flops_per_token, model_flops_utilisation

#: The model's parameters and what the configuration makes of them may differ by this much.
_TOLERANCE = 0.01


class ModelCost:
    """Parameters and FLOPs of one experiment's model.

    Args:
        model: to count its parameters; None where there is none.
        peak_flops: of one device, FLOP/s; None for what `lossbook.lm.devices` has for the GPU in use.
        warn: takes one sentence: the model and its configuration disagree.

    Attributes:
        parameters: counted in the model; None without one.
        estimated: what the configuration means; None where it does not say enough.
        flops_per_token: forward and backward; None where the shape is not known.
    """

    def __init__(
        self, config: ExperimentConfig, model: object, peak_flops: float | None, warn: Callable[[str], None]
    ) -> None:
        self._config = config
        self._peak_flops = peak_flops
        self.estimated: int | None = None
        try:
            self.estimated = config.estimate_parameters()
        except BadArgument as error:
            warn(f"the parameters cannot be estimated: {error}")
        self.parameters = model_parameters(model) if model is not None else None
        counted, estimated = self.parameters, self.estimated
        # Without a context length the positions are missing from the estimate, which are no fault of the configuration.
        positions = 0 if config.context_length else (counted or 0) // 10
        if counted and estimated and abs(counted - estimated) > _TOLERANCE * counted + positions:
            warn(
                f"the model has {counted:,} parameters, but its configuration means {estimated:,}: "
                "check vocab_size, d_model, num_layers, d_ff and architecture"
            )
        self.flops_per_token = self._flops_per_token()

    def _flops_per_token(self) -> float | None:
        config = self._config
        count = self.parameters or self.estimated
        if not count or not config.num_layers or not config.d_model or not config.context_length:
            return None
        from lossbook.lm.shapes import lookup_parameters

        try:
            looked_up = lookup_parameters(
                architecture=config.architecture or ("llama" if config.rope_theta or config.num_kv_heads else "gpt2"),
                vocab_size=config.vocab_size or 0,
                d_model=config.d_model,
                context_length=config.context_length,
            )
        except LossbookError:
            looked_up = 0
        return flops_per_token(
            max(0, count - looked_up),
            num_layers=config.num_layers,
            d_model=config.d_model,
            context_length=config.context_length,
        )

    def add_utilisation(self, row: dict[str, object], tokens_per_second: float, devices: int) -> None:
        """Add tokens per second and GPU, and model FLOPs utilisation (%), where GPUs or their peak are known."""
        if self._peak_flops is None and _on_gpu():
            self._peak_flops = _peak_of_this_gpu(self._config.dtype) or 0.0
        if self._peak_flops or _on_gpu():
            row["throughput/tokens_per_second_per_gpu"] = tokens_per_second / devices
        if self._peak_flops and self.flops_per_token is not None:
            row["throughput/mfu"] = model_flops_utilisation(
                tokens_per_second, self.flops_per_token, self._peak_flops, devices
            )


def _on_gpu() -> bool:
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    return cuda is not None and cuda.is_initialized()


def _peak_of_this_gpu(dtype: str | None) -> float | None:
    from lossbook.lm.devices import peak_flops

    cuda = sys.modules["torch"].cuda
    return peak_flops(cuda.get_device_name(cuda.current_device()), dtype or "bfloat16")
