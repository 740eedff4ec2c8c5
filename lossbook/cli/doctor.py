"""What `lossbook doctor` looks at: the installation, the devices, the store, the runs that are being written."""

from __future__ import annotations

import glob
import os
import platform
import shutil
import sys
import time
from dataclasses import dataclass, field
from importlib import metadata, util

import orjson

from lossbook.cli.followers import followers_behind, living_followers
from lossbook.cli.format import age, plural, size
from lossbook.errors import LossbookError
from lossbook.journal import choose_durability, file_system
from lossbook.paths import RunFolder, run_folders
from lossbook.registry import MIRRORS, REGISTRIES

_NEEDED = ("orjson", "duckdb", "numpy", "click", "psutil")
_OPTIONAL = ("torch", "tokenizers", "pandas", "polars", "pyarrow", "wandb", "trackio", "tensorboard", "tensorboardX",
             "mlflow", "obstore", "nvidia-ml-py", "amdsmi")  # fmt: skip
_APPENDS = 200
#: Less room than this on the store's disk is worth a warning, in bytes.
_LITTLE_ROOM_BYTES = 1 << 30


@dataclass
class Section:
    """One part of the report.

    Attributes:
        facts: what was found, as text, by its name.
        warnings: what is wrong and what to do, a sentence each.
    """

    title: str
    facts: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def examine(store: str) -> list[Section]:
    """Look at everything; never raises for what is missing or broken, it is reported."""
    return [_installation(), _devices(), _mirrors(), _sources(), _detectors(), _plugins(), _store(store), _runs(store)]


def _installation() -> Section:
    import lossbook

    section = Section("installation")
    section.facts["lossbook"] = f"{lossbook.__version__} in {os.path.dirname(lossbook.__file__)}"
    section.facts["python"] = f"{platform.python_version()} ({sys.executable})"
    section.facts["system"] = f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} cpus"
    for name in _NEEDED:
        version = _version(name)
        section.facts[name] = version or "missing"
        if version is None:
            section.warnings.append(f"{name} is not installed, which Lossbook needs: pip install {name}")
    for name in _OPTIONAL:
        section.facts[name] = _version(name) or "not installed"
    return section


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


# -- mirrors ---


def _mirrors() -> Section:
    """Which trackers a run can be mirrored to here, and what of a run each cannot hold."""
    from lossbook.trackers import mirror_class

    section = Section("mirrors")
    for name in MIRRORS.usable():
        mirror = mirror_class(name)
        version = next(filter(None, map(_version, mirror.packages)), None)
        missing = f"not installed: {mirror.library}" if mirror.packages else MIRRORS.added().get(name, "")
        section.facts[name] = version or missing
        for number, sentence in enumerate(mirror.lacks, 1):
            section.facts[f"{name} lacks {number}"] = sentence
    return section


def _sources() -> Section:
    """Whose runs can be read here."""
    from lossbook.trackers import SOURCES, source_class

    return Section("sources", {name: source_class(name).title for name in SOURCES.usable()})


def _detectors() -> Section:
    """What a diagnosis looks for."""
    from lossbook.diagnosis import detector_classes

    return Section("detectors", {detector.kind: detector.title for detector in detector_classes()})


# -- plugins ------------------------------------------------------------------------------------------------------


def _plugins() -> Section:
    """What other packages add, and what of it cannot be used."""
    section = Section("plugins")
    for registry in REGISTRIES:
        for name, package in registry.added().items():
            section.facts[f"{registry.what} {name}"] = package
        section.warnings += registry.problems()
    if not section.facts:
        section.facts["none"] = "docs/extending.md says how to add one"
    return section


# -- devices ------------------------------------------------------------------------------------------------------


def _devices() -> Section:
    section = Section("devices")
    nvidia = _nvidia_by_nvml(section) or _nvidia_by_driver()
    for index, text in enumerate(nvidia):
        section.facts[f"nvidia {index}"] = text
    for index, text in enumerate(amd_gpus()):
        section.facts[f"amd {index}"] = text
    if nvidia and util.find_spec("pynvml") is None:
        section.facts["nvml"] = "nvidia-ml-py is not installed: pip install nvidia-ml-py shows memory and load"
    if not section.facts:
        section.facts["gpu"] = "none found"
    return section


def _nvidia_by_nvml(section: Section) -> list[str]:
    if util.find_spec("pynvml") is None:
        return []
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        if glob.glob("/proc/driver/nvidia/gpus/*"):
            section.warnings.append(f"the NVIDIA driver is loaded but NVML does not answer ({error})")
        return []
    found = []
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        for index in range(pynvml.nvmlDeviceGetCount()):
            device = pynvml.nvmlDeviceGetHandleByIndex(index)
            memory = pynvml.nvmlDeviceGetMemoryInfo(device)
            name = _text(pynvml.nvmlDeviceGetName(device))
            found.append(f"{name}, {size(memory.used)} of {size(memory.total)} used, driver {driver}")
    except pynvml.NVMLError as error:
        section.warnings.append(f"NVML stopped answering half way ({error})")
    finally:
        pynvml.nvmlShutdown()
    return found


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _nvidia_by_driver(root: str = "/proc/driver/nvidia") -> list[str]:
    found = []
    for path in sorted(glob.glob(os.path.join(root, "gpus", "*", "information"))):
        fields = _colon_fields(path)
        found.append(f"{fields.get('Model', 'NVIDIA GPU')} at {os.path.basename(os.path.dirname(path))}")
    return found


def _colon_fields(path: str) -> dict[str, str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            pairs = [line.partition(":") for line in file]
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in pairs if value}


def amd_gpus(root: str = "/sys/class/kfd/kfd/topology/nodes") -> list[str]:
    """AMD GPUs as the kernel's compute driver lists them; a node without SIMD units is a CPU."""
    found = []
    for node in sorted(glob.glob(os.path.join(root, "*"))):
        try:
            with open(os.path.join(node, "properties"), encoding="ascii", errors="replace") as file:
                properties = dict(line.split(None, 1) for line in file if len(line.split()) == 2)
        except OSError:
            continue
        if int(properties.get("simd_count", "0")) == 0:
            continue
        version = int(properties.get("gfx_target_version", "0"))
        # 90402 stands for gfx942: major, minor and stepping, two decimal digits each; stepping is written in hex.
        target = f"gfx{version // 10000}{version // 100 % 100}{version % 100:x}"
        memory = _amd_memory_bytes(node)
        found.append(f"AMD {target}" + (f", {size(memory)}" if memory else ""))
    return found


def _amd_memory_bytes(node: str) -> int:
    total = 0
    for path in glob.glob(os.path.join(node, "mem_banks", "*", "properties")):
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith("size_in_bytes"))
        except (OSError, ValueError, IndexError):
            continue
    return total


# -- the store ----------------------------------------------------------------------------------------------------


def _store(store: str) -> Section:
    section = Section("store")
    path = os.path.abspath(store)
    section.facts["path"] = path + ("" if os.path.isdir(path) else " (not there yet)")
    named = "LOSSBOOK_STORE" if os.environ.get("LOSSBOOK_STORE") == store else "--store or the default"
    section.facts["named by"] = named
    mount, kind = file_system(path)
    section.facts["file system"] = f"{kind} on {mount}" if kind else "not known"
    durability, reason = choose_durability(path)
    forced = os.environ.get("LOSSBOOK_DURABILITY")
    if forced:
        durability, reason = forced, "LOSSBOOK_DURABILITY says so"
    section.facts["durability"] = f"{durability}: {reason}"
    if durability == "async":
        section.facts["measured"] = "nothing is written to a file system that may hang"
        return section
    there = path
    while not os.path.isdir(there):
        there = os.path.dirname(there)
    try:
        free = shutil.disk_usage(there).free
        section.facts["free"] = size(free)
        if free < _LITTLE_ROOM_BYTES:
            section.warnings.append(f"only {size(free)} are free on the disk of {path}: a full disk loses rows")
    except OSError as error:
        section.warnings.append(f"the disk of {path} does not say what is free ({error.strerror})")
    _measure_append(there, section)
    _check_index(path, section)
    return section


def _measure_append(folder: str, section: Section) -> None:
    """Time the write(2) that a `log()` of ten scalars makes, and the fsync that `sync()` makes."""
    probe = os.path.join(folder, f".lossbook-doctor-{os.getpid()}.tmp")
    line = b'{"i":1,"t":1763688000123456,"s":1,"m":{' + b'"train/loss":3.2171238,' * 10 + b"}}\n"
    try:
        fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    except OSError as error:
        section.facts["writable"] = "no"
        section.warnings.append(f"{folder} cannot be written ({error.strerror}): runs go to the cache folder instead")
        return
    try:
        times = []
        for _ in range(_APPENDS):
            begun = time.perf_counter_ns()
            os.write(fd, line)
            times.append(time.perf_counter_ns() - begun)
        begun = time.perf_counter_ns()
        os.fsync(fd)
        synced = time.perf_counter_ns() - begun
        times.sort()
        section.facts["writable"] = "yes"
        section.facts["append"] = (
            f"{times[len(times) // 2] / 1e3:.1f} µs (median of {_APPENDS}; the slowest {times[-1] / 1e3:.0f} µs), "
            f"fsync {synced / 1e3:.0f} µs"
        )
    except OSError as error:
        section.facts["writable"] = "no"
        section.warnings.append(f"{folder} takes no writes ({error.strerror}): free some room or name another store")
    finally:
        os.close(fd)
        os.unlink(probe)


def _check_index(store: str, section: Section) -> None:
    from lossbook.reading import index_path

    path = index_path(store)
    try:
        with open(path, "rb") as file:
            head = file.readline()
        orjson.loads(head)
    except FileNotFoundError:
        if os.path.isdir(store):
            section.facts["index"] = "none yet; `lossbook ls` writes it"
    except (OSError, ValueError):
        section.facts["index"] = "damaged"
        section.warnings.append(f"{path} is damaged: delete it, `lossbook ls` writes it anew")
    else:
        section.facts["index"] = f"{size(os.path.getsize(path))}, written {age(os.path.getmtime(path))}"


# -- runs ---------------------------------------------------------------------------------------------------------


def _runs(store: str) -> Section:
    section = Section("runs")
    if "://" in store or not os.path.isdir(store):
        section.facts["recorded"] = "0"
        return section
    folders = [folder for folder in run_folders(store) if folder.exists()]
    section.facts["recorded"] = str(len(folders))
    odd = _foreign(store)
    if odd:
        section.facts["foreign"] = f"{plural(len(odd), 'folder')} that are no runs, passed over: {', '.join(odd[:3])}"
    followers = living_followers()
    section.warnings += followers_behind()
    try:
        from lossbook.book import open as open_book

        running = [run for run in open_book(store).runs() if run.state == "running"]
    except LossbookError as error:
        section.warnings.append(str(error))
        return section
    section.facts["running"] = str(len(running))
    here = platform.node()
    for run in running:
        pids = followers.get(os.path.realpath(run.path))
        host = run.record.host or "?"
        if pids:
            section.facts[run.id] = f"{run.name}, followed by process {pids[0]}"
        elif host == here:
            section.facts[run.id] = f"{run.name}, without a follower"
            section.warnings.append(
                f"nobody follows the run {run.id}: `lossbook seal {run.id}` seals it once it has ended"
            )
        else:
            section.facts[run.id] = f"{run.name}, on {host}"
    unsealed = [
        folder for folder in folders if _has_journal(folder) and folder.path not in {run.path for run in running}
    ]
    if unsealed:
        section.facts["unsealed"] = f"{plural(len(unsealed), 'ended run')}; `lossbook seal --all` makes them small"
    return section


def _has_journal(folder: RunFolder) -> bool:
    try:
        with os.scandir(folder.journal) as entries:
            return any(entry.name.endswith(".jsonl") for entry in entries)
    except OSError:
        return False


def _foreign(store: str) -> list[str]:
    return [os.path.relpath(folder.path, store) for folder in run_folders(store) if not folder.exists()]
