"""`wandb.api`: what training code asks of W&B's login before it begins. A run here needs none."""

from __future__ import annotations

import os

__all__ = ["default_entity", "settings", "viewer"]

#: Scripts stop where there is no key.
NO_KEY = "local"

default_entity = "local"


def __getattr__(name: str) -> str:
    if name == "api_key":
        return os.environ.get("WANDB_API_KEY") or NO_KEY
    raise AttributeError(name)


def settings(name: str | None = None, *_: object) -> object:
    """The team, the project and the server; each is a text, as there."""
    found = {
        "entity": os.environ.get("WANDB_ENTITY") or default_entity,
        "project": os.environ.get("WANDB_PROJECT"),
        "base_url": "",
    }
    return found if name is None else found.get(name)


def viewer() -> dict[str, object]:
    """Who is logged in."""
    return {"entity": default_entity, "username": default_entity, "email": ""}
