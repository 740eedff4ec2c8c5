"""`wandb.integration.lightning.fabric`: the logger for Lightning Fabric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lossbook.integrations import LossbookLogger

__all__ = ["WandbLogger"]


class WandbLogger(LossbookLogger):
    """Lossbook's logger, with the arguments of W&B's.

    Args:
        name, id, project, offline, prefix: of the run; `version` is `id`.
        save_dir, dir: as `dir` of `init`.
        experiment: the run to write to.
        log_model: taken; `log_artifact` keeps files.
        named: other arguments of `init`.
    """

    def __init__(
        self,
        name: str | None = None,
        save_dir: str | None = None,
        version: str | None = None,
        offline: bool = False,
        dir: str | None = None,
        id: str | None = None,
        anonymous: object = None,
        project: str | None = None,
        log_model: object = False,
        experiment: Any = None,
        prefix: str = "",
        base_url: str | None = None,
        **named: Any,
    ) -> None:
        given = {"name": name, "id": id or version, "dir": dir or save_dir, "mode": "offline" if offline else None}
        arguments = {key: value for key, value in {**named, **given}.items() if value is not None}
        super().__init__(project, run=experiment, prefix=prefix, **arguments)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """As Lossbook's logger, with the step under W&B's key as well."""
        super().log_metrics(metrics if step is None else {**metrics, "trainer/global_step": step}, step)
