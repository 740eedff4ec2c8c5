"""Which durability a store gets: it depends on whether its file system can hang."""

from __future__ import annotations

import os

#: File systems whose server may stop answering; a write to them can then block for ever.
_NETWORK = frozenset(
    ("9p", "acfs", "afs", "beegfs", "beegfs_nodev", "ceph", "cifs", "davfs", "gfs2", "glusterfs", "gpfs", "lustre",
     "mmfs", "ncpfs", "nfs", "nfs3", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb3", "smbfs", "wekafs")
)  # fmt: skip
MOUNTS = "/proc/self/mountinfo"


def choose_durability(path: str) -> tuple[str, str]:
    """Choose "process" or "async" for a store, without touching a mount that may hang.

    Returns:
        The durability, and the reason as half a sentence.
    """
    mount, kind = file_system(path)
    if not kind:
        return "process", "the file system's type is not known here"
    if is_network(kind):
        return "async", f"{mount} is {kind}, a network file system that may stop answering"
    return "process", f"{mount} is {kind}, a local file system"


def is_network(kind: str) -> bool:
    """Whether a file system of that type (as in the mount table) is served over a network.

    Everything served through FUSE counts, `fuseblk` (a local disk) excepted.
    """
    return kind in _NETWORK or kind == "fuse" or kind.startswith("fuse.")


def file_system(path: str) -> tuple[str, str]:
    """Return the mount point that `path` lies on and its type; ("", "") where there is no mount table."""
    mounts = _mounts()
    if not mounts:
        return "", ""
    return _mount_of(_resolve(path, mounts), mounts)


def _mounts() -> dict[str, str]:
    mounts: dict[str, str] = {}
    try:
        with open(MOUNTS, encoding="utf-8", errors="surrogateescape") as table:
            for line in table:
                # https://docs.kernel.org/filesystems/proc.html: field 5 is the mount point; the type follows " - ".
                left, _, right = line.partition(" - ")
                point = left.split(" ")[4]
                for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
                    point = point.replace(code, character)
                mounts[point] = right.split(" ")[0]
    except (OSError, IndexError):
        return mounts
    return mounts


def _mount_of(path: str, mounts: dict[str, str]) -> tuple[str, str]:
    while path not in mounts:
        parent = os.path.dirname(path)
        if parent == path:
            return "", ""
        path = parent
    return path, mounts[path]


def _resolve(path: str, mounts: dict[str, str], links: int = 0) -> str:
    """Follow symbolic links one component at a time, touching nothing that lies on a network mount.

    A local mount below a network one (the scratch disk of a node that boots from the network) is known by its name.
    """
    resolved = "/"
    parts = [part for part in os.path.abspath(path).split("/") if part]
    while parts:
        mount, kind = _mount_of(resolved, mounts)
        if is_network(kind):
            rest = os.path.join(resolved, *parts)
            named = _mount_of(rest, mounts)[0]
            if named == mount:
                return resolved
            resolved = named
            parts = [part for part in rest[len(named) :].split("/") if part]
            continue
        step = os.path.join(resolved, parts.pop(0))
        if step not in mounts and links < 40:
            try:
                target = os.readlink(step)
            except OSError:
                target = ""
            if target:
                return _resolve(os.path.join(resolved, target, *parts), mounts, links + 1)
        resolved = step
    return resolved
