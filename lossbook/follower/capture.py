"""What exactly was run: git commit and diff, the script, packages, environment; secrets masked."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
from dataclasses import dataclass
from importlib import metadata

from lossbook.json_shapes import Json, JsonObject
from lossbook.paths import RunFolder, make_folder, replace_file, write_json
from lossbook.redaction import MASK, is_secret_name, mask_text
from lossbook.run_info import Git, edit_run_info, read_run_info, with_attempt

#: A longer diff (bytes) is cut, and says so: it is data that somebody forgot to ignore.
LARGEST_DIFF_BYTES = 10 << 20
LARGEST_SCRIPT_BYTES = 1 << 20
GIT_SECONDS = 20.0

#: Variables worth keeping are named here one by one or by prefix: whatever else is in the environment is nobody's business.
_KEPT_PREFIXES = (
    "ACCELERATE_", "AMD_", "BLIS_", "CONDA_DEFAULT", "CUBLAS_", "CUDA", "CUDNN_", "DEEPSPEED_", "FI_", "FLASH_",
    "GLOO_", "GOMP_", "GPU_", "HF_HOME", "HF_HUB_", "HIP_", "HSA_", "JAX_", "KMP_", "LOSSBOOK_", "MIOPEN_", "MKL_",
    "NCCL_", "NVIDIA_", "NVTE_", "OMP_", "OMPI_COMM_", "OPENBLAS_", "PYTHON", "PYTORCH_", "RCCL_", "ROCM_", "ROCR_",
    "SLURM_", "TF_", "TOKENIZERS_", "TORCH", "TPU_", "TRACKIO_", "TRANSFORMERS_", "TRITON_", "UCX_", "WANDB_", "XLA_",
)  # fmt: skip
_KEPT_NAMES = frozenset(
    ("HOSTNAME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "LD_PRELOAD", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR",
     "MASTER_PORT", "NODE_RANK", "PATH", "RANK", "TZ", "VIRTUAL_ENV", "WORLD_SIZE")
)  # fmt: skip


def capture(folder: RunFolder, *, attempt: int, main: bool) -> None:
    """Write `code/` (for a resumed run `code/attempt-<n>/`), and the commit into `run.json`.

    Args:
        main: whether this is the follower of rank 0; the others have nothing to add.
    """
    if not main:
        return
    target = folder.code if attempt == 0 else os.path.join(folder.code, f"attempt-{attempt}")
    make_folder(folder.code)
    make_folder(target)
    info = read_run_info(folder)[0]
    write_json(os.path.join(target, "environment.json"), environment(), durable=False)
    replace_file(os.path.join(target, "packages.txt"), packages().encode(), durable=False)
    state = git_state(info.cwd or ".", info.script)
    if state is not None:
        write_json(os.path.join(target, "git.json"), state.to_json(), durable=False)
        if state.diff:
            replace_file(os.path.join(target, "diff.patch"), state.diff.encode("utf-8", "replace"), durable=False)
        commit = state.git
        if os.path.exists(folder.run_json):
            edit_run_info(folder, lambda now: with_attempt(now._replace(git=now.git or commit), attempt, git=commit))
    if state is None or state.script_untracked:
        _keep_script(target, info.script)


def environment() -> JsonObject:
    """The interpreter, the system, and the variables that matter to training (this process inherited them)."""
    kept: JsonObject = {
        name: MASK if is_secret_name(name) or _is_secret_variable(name) else mask_text(value)
        for name, value in sorted(os.environ.items())
        if name in _KEPT_NAMES or name.startswith(_KEPT_PREFIXES)
    }
    return {
        "python": sys.version,
        "executable": sys.executable,
        "system": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "variables": kept,
    }


def _is_secret_variable(name: str) -> bool:
    # What another package's alert sink is given may be an address that is a credential, as a webhook's is.
    if name.startswith("LOSSBOOK_ALERT_") and name != "LOSSBOOK_ALERT_COMMAND":
        return True
    return any(word in name.upper() for word in ("API_KEY", "SECRET", "PASSWORD", "TOKEN", "CREDENTIAL")) and not (
        name.startswith("TOKENIZERS_")
    )


def packages() -> str:
    """Every installed distribution as `name==version`, a line each, as `pip freeze` lists them."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(str(name).lower(), f"{name}=={distribution.version}")
    return "".join(f"{found[name]}\n" for name in sorted(found))


@dataclass(frozen=True)
class GitState:
    """A repository as the training began.

    Attributes:
        git: commit, branch, remote, and whether tracked files are changed.
        root: the folder of the repository.
        untracked: files in it that git does not know.
        script_untracked: whether the script is one of them, or lies elsewhere.
        diff: what is changed since the commit, secrets masked.
    """

    git: Git
    root: str
    untracked: tuple[str, ...]
    script_untracked: bool
    diff: str

    def to_json(self) -> JsonObject:
        """As `git.json` has it; the diff is a file of its own."""
        untracked: list[Json] = list(self.untracked)
        return {
            "commit": self.git.commit,
            "branch": self.git.branch,
            "dirty": self.git.dirty,
            "remote": self.git.remote,
            "root": self.root,
            "untracked": untracked,
            "script_untracked": self.script_untracked,
        }


def git_state(directory: str, script: str | None) -> GitState | None:
    """Commit, branch, remote, what is changed; None outside a repository or without git."""
    where = os.path.dirname(script) if script and os.path.isfile(script) else directory
    root = _git(where, "rev-parse", "--show-toplevel")
    if root is None and where != directory:
        where = directory
        root = _git(where, "rev-parse", "--show-toplevel")
    if root is None:
        return None
    root = root.strip()
    # -z: names as they are, however odd.
    status = (_git(root, "status", "--porcelain", "-z", "--untracked-files=normal") or "").split("\0")
    untracked = [entry[3:] for entry in status if entry.startswith("?? ")]
    has_commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    diff = (_git(root, "diff", "HEAD", "--no-ext-diff", "--no-color") if has_commit else "") or ""
    if len(diff.encode("utf-8", "replace")) >= LARGEST_DIFF_BYTES:
        diff += f"\n[cut here: the diff is longer than {LARGEST_DIFF_BYTES} bytes]\n"
    tracked = bool(script and _git(root, "ls-files", "--error-unmatch", script) is not None)
    remote = _git(root, "remote", "get-url", "origin")
    git = Git(
        commit=has_commit.strip() if has_commit else None,
        branch=(_git(root, "symbolic-ref", "--short", "-q", "HEAD") or "").strip() or None,
        dirty=any(entry and not entry.startswith("?? ") for entry in status),
        remote=mask_text(remote.strip()) if remote else None,
    )
    return GitState(git, root, tuple(untracked[:1000]), bool(script) and not tracked, mask_text(diff))


def _git(directory: str, *arguments: str) -> str | None:
    # Nothing here may wait for a password, a pager or a lock that somebody else needs.
    quiet = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "GIT_PAGER": "cat"}
    try:
        process = subprocess.Popen(
            ["git", "-C", directory, *arguments],
            env=quiet,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None
    stop = threading.Timer(GIT_SECONDS, process.kill)
    stop.start()
    with process:
        assert process.stdout is not None
        # A data set that nobody ignored may be gigabytes long: no more is read than is kept.
        text = process.stdout.read(LARGEST_DIFF_BYTES)
        is_cut = len(text) == LARGEST_DIFF_BYTES
        if is_cut:
            process.kill()
    stop.cancel()
    return text.decode("utf-8", "replace") if is_cut or process.returncode == 0 else None


def _keep_script(target: str, script: str | None) -> None:
    if not script or not os.path.isfile(script) or os.path.getsize(script) > LARGEST_SCRIPT_BYTES:
        return
    with open(script, "rb") as file:
        text = file.read().decode("utf-8", "replace")
    replace_file(os.path.join(target, os.path.basename(script)), mask_text(text).encode(), durable=False)
