"""The repository that a training runs in: commit, branch, remote, and what is changed since; secrets masked.

A repository may be anybody's: git is asked so that it runs no program that one names.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO

from lossbook.json_shapes import Json, JsonObject
from lossbook.redaction import mask_text
from lossbook.run_info import Git

#: A longer diff (bytes) is cut, and says so: it is data that somebody forgot to ignore.
LARGEST_DIFF_BYTES = 10 << 20
#: A longer binary file that was changed is named in `git.json`, and not in the diff: it would leave no room for code.
LARGEST_BINARY_BYTES = 1 << 20
GIT_SECONDS = 20.0
_MOST_NAMES = 1000
_MOST_PATHS = 500

#: Settings of git under which it runs nothing that a repository names. Empty means "none" for each of the programs.
_HARMLESS = (
    "core.fsmonitor=",
    "core.hooksPath=/dev/null",
    "core.untrackedCache=false",
    "core.sshCommand=false",
    "core.gitProxy=",
    "core.askPass=",
    "core.alternateRefsCommand=false",
    "credential.helper=",
    "protocol.allow=never",
    "core.pager=cat",
    "diff.orderFile=/dev/null",
    "diff.submodule=short",
    "diff.relative=false",
    "diff.noprefix=false",
    "diff.mnemonicPrefix=false",
    "submodule.recurse=false",
    "gpg.program=false",
    "log.showSignature=false",
)
#: What follows `filter.NAME.`: files are compared as they lie there.
_NO_FILTER = ("clean=", "smudge=", "process=", "required=false")
#: git would look into a submodule with that one's own settings.
_SUBMODULES = ("--ignore-submodules=dirty",)
#: A diff of git's own making, as `git apply` takes it, whatever the settings say.
_PLAIN_DIFF = (
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--submodule=short",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "-O/dev/null",
    *_SUBMODULES,
)
#: Nothing here may wait for a password, a pager or a lock that somebody else needs, or fetch what a clone left out.
_QUIET = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_PAGER": "cat",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "LC_ALL": "C",
}
_PROGRAMS = frozenset(("GIT_EXTERNAL_DIFF", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_PROXY_COMMAND"))
#: Of `git status --porcelain=v2`: a changed file, and one that a merge left in conflict.
_FIELDS_BEFORE_PATH = {"1": 8, "u": 10}


@dataclass(frozen=True)
class GitState:
    """A repository as the training began.

    Attributes:
        git: commit, branch, remote, and whether tracked files are changed.
        root: the folder of the repository.
        untracked: files in it that git does not know.
        script_untracked: whether the script is one of them, or lies elsewhere.
        diff: what is changed since the commit, secrets masked; a byte that is no UTF-8 stands as a surrogate.
        left_out: changed files that are not in the diff: long binary ones, and those that pass through a program
            (a filter, as of git-lfs), because it is not run.
    """

    git: Git
    root: str
    untracked: tuple[str, ...]
    script_untracked: bool
    diff: str
    left_out: tuple[str, ...] = ()

    def to_json(self) -> JsonObject:
        """As `git.json` has it; the diff is a file of its own."""
        untracked: list[Json] = list(self.untracked)
        written: JsonObject = {
            "commit": self.git.commit,
            "branch": self.git.branch,
            "dirty": self.git.dirty,
            "remote": self.git.remote,
            "root": self.root,
            "untracked": untracked,
            "script_untracked": self.script_untracked,
        }
        if self.left_out:
            written["left_out"] = list(self.left_out)
        return written


def git_state(directory: str, script: str | None) -> GitState | None:
    """Commit, branch, remote, what is changed; None outside a repository or without git.

    A repository may be anybody's. No program that it names is run: no monitor of the file system, no filter, no text
    conversion, no diff of its own, no hook, no transport. So git is also asked where the repository's owner is another.
    """
    where = os.path.dirname(script) if script and os.path.isfile(script) else directory
    with tempfile.TemporaryDirectory(prefix="lossbook-git-") as scratch:
        repository = _open(where, scratch) or (_open(directory, scratch) if where != directory else None)
        if repository is None:
            return None
        commit, branch, changed, untracked = repository.status()
        diff, left_out = repository.diff(changed) if commit and changed else ("", [])
        tracked = bool(script and repository.ask("ls-files", "--error-unmatch", "--", script) is not None)
    remote = repository.remote
    git = Git(commit, branch, None if changed is None else bool(changed), mask_text(_shown(remote)) if remote else None)
    return GitState(
        git,
        _shown(repository.root),
        tuple(map(_shown, untracked[:_MOST_NAMES])),
        bool(script) and not tracked,
        diff,
        tuple(map(_shown, left_out[:_MOST_NAMES])),
    )


@dataclass(frozen=True)
class _Repository:
    """A repository that is asked without running a program that it names.

    Attributes:
        remote: the address that it was cloned from.
        filters: the names of the programs that files may pass through.
        settings: of git, above the repository's own.
        variables: of git, above this process's.
    """

    root: str
    remote: str | None
    filters: frozenset[str]
    settings: tuple[str, ...]
    variables: dict[str, str]

    def ask(self, *arguments: str, said: str = "") -> str | None:
        """What git prints, at most so much as a diff may have; None where it fails."""
        return _git(self.root, self.settings, self.variables, *arguments, said=said)

    def status(self) -> tuple[str | None, str | None, list[str] | None, list[str]]:
        """The commit, the branch, the tracked files that may be changed (None: git does not say), and the untracked ones."""
        # -z: names as they are, however odd.
        found = self.ask(
            "status", "--porcelain=v2", "--branch", "-z", "--no-renames", "--untracked-files=normal", *_SUBMODULES
        )
        if found is None:
            commit = (self.ask("rev-parse", "--verify", "--quiet", "HEAD") or "").strip()
            branch = (self.ask("symbolic-ref", "--short", "-q", "HEAD") or "").strip()
            return commit or None, branch or None, None, []
        head: dict[str, str] = {}
        changed: list[str] = []
        untracked: list[str] = []
        for entry in found.split("\0"):
            kind, _, rest = entry.partition(" ")
            if kind == "#":
                name, _, head[name] = rest.partition(" ")
            elif kind == "?":
                untracked.append(rest)
            elif kind in _FIELDS_BEFORE_PATH:
                changed.append(entry.split(" ", _FIELDS_BEFORE_PATH[kind])[-1])
        begun, on_branch = head.get("branch.oid"), head.get("branch.head")
        return (
            None if begun == "(initial)" else begun,
            None if on_branch == "(detached)" else on_branch,
            changed,
            untracked,
        )

    def diff(self, changed: list[str]) -> tuple[str, list[str]]:
        """What is changed since the commit, secrets masked, and the changed files that are not in it."""
        left_out = self._filtered(changed)
        left_out |= self._long_binaries([path for path in changed if path not in left_out])
        kept = [path for path in changed if path not in left_out]
        if not kept:
            return "", sorted(left_out)
        # All of them, unless there is one to leave out.
        paths = [f":(top,literal){path}" for path in kept] if left_out else []
        if len(paths) > _MOST_PATHS:
            paths = [":(top)", *(f":(top,exclude,literal){path}" for path in left_out)][: 2 * _MOST_PATHS]
        text = self.ask("diff", "HEAD", "--binary", *_PLAIN_DIFF, "--", *paths) or ""
        is_cut = len(os.fsencode(text)) >= LARGEST_DIFF_BYTES
        masked = _masked(text)
        if is_cut:
            masked += f"\n[cut here: the diff is longer than {LARGEST_DIFF_BYTES} bytes]\n"
        return masked, sorted(left_out)

    def _filtered(self, paths: list[str]) -> set[str]:
        """Those that pass through a program on their way into the repository: what that would make of them is not known."""
        if not self.filters or not paths:
            return set()
        found = self.ask("check-attr", "-z", "--stdin", "filter", said="\0".join(paths)) or ""
        fields = found.split("\0")
        return {path for path, name in zip(fields[0::3], fields[2::3], strict=False) if name in self.filters}

    def _long_binaries(self, paths: list[str]) -> set[str]:
        long = {path for path in paths if _size_bytes(os.path.join(self.root, path)) > LARGEST_BINARY_BYTES}
        if not long:
            return set()
        counts = self.ask("diff", "HEAD", "--numstat", "-z", "--no-renames", *_PLAIN_DIFF, "--", ":(top)") or ""
        return {path for one in counts.split("\0") if (path := one.removeprefix("-\t-\t")) != one and path in long}


def _open(folder: str, scratch: str) -> _Repository | None:
    """The repository that a folder lies in; None where there is none, or where git does not answer."""
    trusted = _worktree_around(folder)
    settings = (*_HARMLESS, *(f"safe.directory={path}" for path in trusted))
    variables: dict[str, str] = {}
    root = _git(folder, settings, variables, "rev-parse", "--show-toplevel")
    if root is None and trusted:
        # Releases before 2.38 believe what is safe from the user's own settings alone.
        variables = {"GIT_CONFIG_GLOBAL": _settings_file(scratch, trusted)}
        root = _git(folder, settings, variables, "rev-parse", "--show-toplevel")
    if root is None:
        return None
    root = root.removesuffix("\n")
    # `core.worktree` may name any folder of the machine.
    if os.path.commonpath([os.path.realpath(folder), os.path.realpath(root)]) != os.path.realpath(root):
        return None
    listed = _git(root, settings, variables, "config", "--list", "-z")
    if listed is None:
        return None
    found = {name: value for name, _, value in (one.partition("\n") for one in listed.split("\0"))}
    filters = frozenset(name[7:].rpartition(".")[0] for name in found if name.startswith("filter."))
    if any("=" in name or "\n" in name for name in filters):
        return None  # a name that cannot be switched off on git's command line is nobody's
    off = [f"filter.{name}.{part}" for name in sorted(filters) for part in _NO_FILTER]
    return _Repository(root, found.get("remote.origin.url"), filters, (*settings, *off), variables)


def _worktree_around(folder: str) -> tuple[str, ...]:
    """The nearest folder above with a `.git`, by its path and without links: git knows it by either."""
    above = os.path.abspath(folder)
    while not os.path.lexists(os.path.join(above, ".git")):
        if above == os.path.dirname(above):
            return ()
        above = os.path.dirname(above)
    return tuple(dict.fromkeys((above, os.path.realpath(above))))


def _settings_file(scratch: str, trusted: tuple[str, ...]) -> str:
    """The user's own settings of git, and folders that are safe beside them."""
    home = os.path.expanduser("~")
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    named = os.environ.get("GIT_CONFIG_GLOBAL")
    own = [os.path.join(base, "git", "config"), os.path.join(home, ".gitconfig")] if named is None else [named]
    lines = [f"[include]\n\tpath = {_quoted(path)}\n" for path in own if path]
    lines += [f"[safe]\n\tdirectory = {_quoted(path)}\n" for path in trusted]
    path = os.path.join(scratch, "gitconfig")
    with open(path, "wb") as file:
        file.write(os.fsencode("".join(lines)))
    return path


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _git(
    directory: str, settings: Iterable[str], variables: Mapping[str, str], *arguments: str, said: str = ""
) -> str | None:
    environment = {name: value for name, value in os.environ.items() if name not in _PROGRAMS}
    stated = [part for setting in settings for part in ("-c", setting)]
    try:
        process = subprocess.Popen(
            ["git", "--no-pager", "-C", directory, *stated, *arguments],
            env={**environment, **_QUIET, **variables},
            stdin=subprocess.PIPE if said else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except (OSError, ValueError):  # a folder whose name no system takes
        return None
    stop = threading.Timer(GIT_SECONDS, process.kill)
    stop.start()
    with process:
        assert process.stdout is not None
        if process.stdin is not None:
            # git reads all before it has much to say: each answer is hardly longer than its question.
            threading.Thread(target=_say, args=(process.stdin, os.fsencode(said)), daemon=True).start()
        # A data set that nobody ignored may be gigabytes long: no more is read than is kept.
        text = process.stdout.read(LARGEST_DIFF_BYTES)
        is_cut = len(text) == LARGEST_DIFF_BYTES
        if is_cut:
            process.kill()
    stop.cancel()
    return os.fsdecode(text) if is_cut or process.returncode == 0 else None


def _say(pipe: IO[bytes], text: bytes) -> None:
    try:
        with pipe:
            pipe.write(text)
    except OSError:  # git went away
        pass


def _size_bytes(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _shown(text: str) -> str:
    """A text of git's as JSON can hold it."""
    return os.fsencode(text).decode("utf-8", "replace")


def _masked(diff: str) -> str:
    from lossbook.follower.diff import mask_diff  # most runs begin without a change

    return mask_diff(diff, largest_bytes=LARGEST_DIFF_BYTES)
