"""The words of W&B's `Artifact` that Lossbook's has no word of its own for: where it came from, and what W&B's server knows."""

from __future__ import annotations

import os

from lossbook.compat.wandb.unknown_names import answer

#: Public names of `wandb.Artifact` that mean something to W&B's server alone.
WORDS = frozenset(
    (
        "collection",
        "get_added_local_path_name",
        "json_encode",
        "linked_at",
        "logged_by",
        "new_draft",
        "unlink",
        "used_by",
    )
)
#: Those whose answer is always the same.
_FIXED: dict[str, object] = {
    "digest_algorithm": "sha256",
    "distributed_id": None,
    "history_step": None,
    "incremental": False,
    "is_link": False,
    "linked_artifacts": [],
    "ttl": None,
    "url": None,
    "use_as": None,
}
#: Those that are another word's: a version is linked from nowhere else, and stays as it was logged.
_SOURCES = {
    "source_artifact": "manifest",
    "source_collection": "base_name",
    "source_project": "project",
    "source_qualified_name": "qualified_name",
    "source_version": "version",
    "updated_at": "created_at",
}


def find_word(artifact: object, name: str) -> object:
    """What `artifact.name` is.

    Raises:
        AttributeError: it is a private name, or one that libraries probe objects for.
    """
    if name in _FIXED:
        return _FIXED[name]
    if name in _SOURCES:
        return getattr(artifact, _SOURCES[name])
    if name in ("entity", "source_entity"):
        return os.environ.get("WANDB_ENTITY") or "local"
    return answer("artifact", name, known=dir(artifact), words=WORDS)
