"""The words of W&B's `Table` that Lossbook's has no word of its own for: each is said once."""

from __future__ import annotations

from lossbook.compat.wandb.unknown_names import TABLE, answer


def find_word(table: object, name: str) -> object:
    """What `table.name` is.

    Raises:
        AttributeError: it is a private name, or one that libraries probe objects for.
    """
    return answer("table", name, known=dir(table), words=TABLE)
