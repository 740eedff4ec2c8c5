"""The losses of one experiment as they go by: the best, the last, and what is derived from them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from lossbook.lm.device_scalars import Scalar, as_scalar, difference, exponential, is_on_device, least, plain_number
from lossbook.lm.throughput import perplexity


class Losses:
    """Best and last loss of training and validation; a value on a device stays there until it is asked for."""

    def __init__(self) -> None:
        self._best: dict[str, Scalar] = {}
        self._last: dict[str, Scalar] = {}

    def add(self, row: dict[str, object], of: str, loss: object) -> None:
        """Add a loss and its perplexity to a row; what is no number is left to the run to say so.

        Args:
            of: "train" or "val".
            loss: held (see `lossbook.lm.device_scalars.detached`); None adds nothing.
        """
        if loss is None:
            return
        row[f"{of}/loss"] = loss
        scalar = as_scalar(loss)
        if scalar is not None:
            row[f"{of}/perplexity"] = exponential(scalar)
            self.keep(of, scalar)

    def add_gap(self, row: dict[str, object], val_loss: object, train_loss: object = None) -> None:
        """Add validation minus training loss, where both are known; the last training loss unless another is given."""
        val, train = as_scalar(val_loss), as_scalar(self._last.get("train") if train_loss is None else train_loss)
        if val is not None and train is not None:
            gap = difference(val, train)
            if gap is not None:
                row["val/train_val_gap"] = gap

    def keep(self, of: str, loss: Scalar) -> None:
        """Count a loss that stands in the row under another name."""
        best = least(self._best.get(of, math.nan), loss)
        if is_on_device(best) or best == best:
            self._best[of] = best
        self._last[of] = loss

    def best(self) -> dict[str, float]:
        """The best ones as numbers, those that are known."""
        plain = {of: plain_number(value) for of, value in self._best.items()}
        return {of: value for of, value in plain.items() if value is not None and value == value}

    def last(self) -> dict[str, float | None]:
        """The last ones as numbers."""
        return {of: plain_number(value) for of, value in self._last.items()}

    def restore(self, best: Mapping[str, Scalar | None]) -> None:
        """Go on from the best ones of earlier attempts."""
        self._best = {of: value for of, value in best.items() if value is not None}

    def totals(self) -> dict[str, float]:
        """What the run's summary says of them."""
        best, last = self.best(), self.last()
        totals = {
            "final/best_train_loss": best.get("train"),
            "final/best_val_loss": best.get("val"),
            "final/best_val_perplexity": perplexity(best["val"]) if "val" in best else None,
            "final/train_loss": last.get("train"),
            "final/val_loss": last.get("val"),
        }
        return {name: value for name, value in totals.items() if value is not None}
