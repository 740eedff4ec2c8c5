"""What exactly was run: git commit and diff, the script, packages, environment; secrets masked."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from lossbook.json_shapes import JsonObject
from lossbook.paths import RunFolder, make_folder, replace_file, write_json
from lossbook.redaction import MASK, is_secret_name, mask_text
from lossbook.run_info import edit_run_info, read_run_info, with_attempt

if TYPE_CHECKING:
    from lossbook.follower.repository import GitState

LARGEST_SCRIPT_BYTES = 1 << 20
#: What was found of a training's repository and of its packages counts for its next runs so long.
RECENT_SECONDS = 60.0
_HEAD_BYTES = 4096
_NAME, _VERSION = re.compile(rb"^Name:(.*)$", re.MULTILINE), re.compile(rb"^Version:(.*)$", re.MULTILINE)

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


#: A training process: its id, and when it began.
Process = tuple[int, float | None]


def capture(
    folder: RunFolder,
    process: Process | None = None,
    *,
    attempt: int,
    main: bool,
    variables: Mapping[str, str] | None = None,
) -> None:
    """Write `code/` (for a resumed run `code/attempt-<n>/`), and the commit into `run.json`.

    Args:
        process: the training process: what was found of the repository counts for its next runs too, for a short while.
        main: whether this is the follower of rank 0; the others have nothing to add.
        variables: the training's environment; that of this process unless told otherwise.
    """
    if not main:
        return
    target = folder.code if attempt == 0 else os.path.join(folder.code, f"attempt-{attempt}")
    make_folder(folder.code)
    make_folder(target)
    info = read_run_info(folder)[0]
    write_json(os.path.join(target, "environment.json"), environment(variables), durable=False)
    replace_file(os.path.join(target, "packages.txt"), packages().encode(), durable=False)
    if process is None:
        state = _git_state(info.cwd or ".", info.script)
    else:
        state = _git_states.find((process, info.cwd, info.script), lambda: _git_state(info.cwd or ".", info.script))
    if state is not None:
        write_json(os.path.join(target, "git.json"), state.to_json(), durable=False)
        if state.diff:
            replace_file(os.path.join(target, "diff.patch"), os.fsencode(state.diff), durable=False)
        commit = state.git
        if os.path.exists(folder.run_json):
            edit_run_info(folder, lambda now: with_attempt(now._replace(git=now.git or commit), attempt, git=commit))
    if state is None or state.script_untracked:
        _keep_script(target, info.script)


def environment(variables: Mapping[str, str] | None = None) -> JsonObject:
    """The interpreter, the system, and those of the variables that matter to training."""
    kept: JsonObject = {
        name: MASK if is_secret_name(name) or _is_secret_variable(name) else mask_text(value)
        for name, value in sorted((os.environ if variables is None else variables).items())
        if name in _KEPT_NAMES or name.startswith(_KEPT_PREFIXES)
    }
    return {
        "python": sys.version,
        "executable": sys.executable,
        "system": _system(),
        "machine": os.uname().machine,
        "cpus": os.cpu_count(),
        "variables": kept,
    }


def _system() -> str:
    """The system as `platform.platform()` names it, which would run `uname` for that."""
    system = os.uname()
    try:
        library = (os.confstr("CS_GNU_LIBC_VERSION") or "").replace(" ", "")
    except (AttributeError, OSError, ValueError):  # another system's C library has no such name
        library = ""
    return "-".join([system.sysname, system.release, system.machine, *(["with", library] if library else [])])


def _is_secret_variable(name: str) -> bool:
    # What another package's alert sink is given may be an address that is a credential, as a webhook's is.
    if name.startswith("LOSSBOOK_ALERT_") and name != "LOSSBOOK_ALERT_COMMAND":
        return True
    return any(word in name.upper() for word in ("API_KEY", "SECRET", "PASSWORD", "TOKEN", "CREDENTIAL")) and not (
        name.startswith("TOKENIZERS_")
    )


def packages() -> str:
    """Every installed distribution as `name==version`, a line each, as `pip freeze` lists them."""
    # What is installed or removed changes the folder that it lies in.
    places = tuple((path, _mtime_ns(path)) for path in dict.fromkeys(sys.path))
    return _packages.find(places, lambda: _list_packages([path for path, _ in places]))


def _list_packages(places: Sequence[str]) -> str:
    found: dict[str, str] = {}
    for place in places:
        try:
            names = sorted(os.listdir(place or "."))
        except OSError:
            continue
        for name in names:
            if name.endswith((".dist-info", ".egg-info")):
                known = _name_and_version(os.path.join(place, name))
                if known is not None:
                    found.setdefault(known[0].lower(), f"{known[0]}=={known[1]}")
    return "".join(f"{found[name]}\n" for name in sorted(found))


def _name_and_version(path: str) -> tuple[str, str] | None:
    """What a distribution is called, from the head of its metadata: `importlib.metadata` would parse all of them."""
    for file_path in (os.path.join(path, "METADATA"), os.path.join(path, "PKG-INFO"), path):
        try:
            with open(file_path, "rb") as file:
                head = file.read(_HEAD_BYTES)
        except OSError:
            continue
        name, version = _NAME.search(head), _VERSION.search(head)
        if name and version:
            return name[1].decode(errors="replace").strip(), version[1].decode(errors="replace").strip()
    return None


def _mtime_ns(path: str) -> int:
    try:
        return os.stat(path or ".").st_mtime_ns
    except OSError:
        return 0


Key = TypeVar("Key", bound=Hashable)
Found = TypeVar("Found")


class _Recent(Generic[Key, Found]):
    """What was found a short while ago. Thread-safe; one thread looks, and the others wait for what it finds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[Key, tuple[float, Found]] = {}

    def find(self, key: Key, look: Callable[[], Found]) -> Found:
        with self._lock:
            oldest = time.monotonic() - RECENT_SECONDS
            self._found = {name: one for name, one in self._found.items() if one[0] >= oldest}
            if key not in self._found:
                self._found[key] = time.monotonic(), look()
            return self._found[key][1]


_packages: _Recent[tuple[tuple[str, int], ...], str] = _Recent()
_git_states: _Recent[tuple[Process, str | None, str | None], GitState | None] = _Recent()


def _git_state(directory: str, script: str | None) -> GitState | None:
    places = [directory] if script is None else [directory, os.path.dirname(script)]
    if "GIT_DIR" not in os.environ and not any(map(_lies_in_repository, places)):
        return None
    from lossbook.follower.repository import git_state

    return git_state(directory, script)


def _lies_in_repository(folder: str) -> bool:
    """Whether git might find a repository around a folder; it is not started where it could not."""
    above = os.path.realpath(folder)
    while not os.path.lexists(os.path.join(above, ".git")):
        if above == os.path.dirname(above):
            return False
        above = os.path.dirname(above)
    return True


def _keep_script(target: str, script: str | None) -> None:
    # Of a notebook the cells are kept as they were run; its file has its pictures too.
    if (
        not script
        or script.endswith(".ipynb")
        or not os.path.isfile(script)
        or os.path.getsize(script) > LARGEST_SCRIPT_BYTES
    ):
        return
    with open(script, "rb") as file:
        text = file.read().decode("utf-8", "replace")
    replace_file(os.path.join(target, os.path.basename(script)), mask_text(text).encode(), durable=False)
