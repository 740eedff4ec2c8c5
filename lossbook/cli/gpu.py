"""`gpu`: what a run spent of its GPUs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from lossbook.cli.app import RUN, Settings, common_options
from lossbook.cli.format import printable
from lossbook.cli.keys import group_of
from lossbook.cli.run_output import heading, print_json
from lossbook.errors import UnknownKey

if TYPE_CHECKING:
    from lossbook.analysis import Gpu, GpuFigures, Reading
    from lossbook.reading import RecordedRun

_GIBIBYTE_BYTES = 2.0**30
_MEBIBYTE_BYTES = 2.0**20
#: So many of a run's metrics are named where none of them is a GPU's.
_NAMED_KEYS = 8


@click.command(
    "gpu",
    epilog="""\b
MB is 2^20 bytes and GB 2^30. Without figures of single GPUs it shows the
means that the trainer logged.

\b
Examples:
  lossbook gpu
  lossbook gpu baseline --full
  lossbook --store trackio://PROJECT gpu --json""",
)
@click.argument("ref", required=False, type=RUN, metavar="[RUN]")
@click.option("--full", is_flag=True, help="Also power and temperature, of the GPUs that were at work.")
@common_options()
@click.pass_obj
def gpu_command(settings: Settings, ref: str | None, full: bool) -> None:
    """Show what each GPU did: memory, utilisation, power, heat."""
    (answer_full if full else answer)(settings.run(ref), settings.json)


def answer(run: RecordedRun, as_json: bool) -> None:
    """Print memory and utilisation of each GPU; exits 1 with a sentence where the run has none.

    Raises:
        UnknownKey: there is nothing to answer with; the message says what to turn on.
    """
    _answer(run, as_json, _lines)


def answer_full(run: RecordedRun, as_json: bool) -> None:
    """Print memory, utilisation, power and temperature of each GPU that was at work.

    Raises:
        UnknownKey: as `answer`.
    """
    _answer(run, as_json, _full_lines)


_Lines = Callable[["RecordedRun", "GpuFigures"], Iterator[str]]


def _answer(run: RecordedRun, as_json: bool, lines_of: _Lines) -> None:
    from lossbook.analysis import read_gpus, total_memory

    figures = read_gpus(run.statistics)
    if not figures:
        if not as_json:
            click.echo("\n".join(heading(run)))
        raise UnknownKey(_nothing(run))
    if as_json:
        total = total_memory(run, figures)
        print_json(
            run,
            {
                "gpus": [
                    {"gpu": gpu.number, "node": gpu.node, "active": gpu.is_active, **_plain(gpu.readings)}
                    for gpu in figures.gpus
                ],
                "total": None
                if total is None
                else {"gpus": total[0] or None, "memory_bytes": dataclasses.asdict(total[1])},
                "overall": _plain(figures.overall),
            },
        )
        return
    click.echo("\n".join([*heading(run), "", *lines_of(run, figures)]))


def _plain(readings: Mapping[str, Reading]) -> dict[str, object]:
    return {quantity: dataclasses.asdict(reading) for quantity, reading in readings.items()}


# -- what was logged in the history -------------------------------------------------------------------------------


def _lines(run: RecordedRun, figures: GpuFigures) -> Iterator[str]:
    """Memory and utilisation, each GPU by itself."""
    blocks = [[f"GPU {printable(gpu.name)}:", *_of_gpu(gpu)] for gpu in figures.shown]
    idle = [gpu for gpu in figures.gpus if gpu not in figures.shown]
    beside = [[f"{_unused(idle)}."]] if idle else []
    yield from _paragraphs([*blocks, *_overall(run, figures), *beside])


def _of_gpu(gpu: Gpu) -> Iterator[str]:
    memory = gpu.readings.get("memory_bytes")
    if memory is not None:
        # What torch holds is less than what the device has given away, and is not called by the same name.
        yield from _section("Memory Used by torch" if memory.by_torch else "Memory Used", memory, _megabytes)
    yield from _section("Memory Allocated (%)", gpu.readings.get("memory_percent"), _percent)
    yield from _section("GPU Utilization (%)", gpu.readings.get("utilisation_percent"), _percent)


def _overall(run: RecordedRun, figures: GpuFigures) -> Iterator[list[str]]:
    """What is known of all GPUs together: sums, and such means as no single GPU has."""
    from lossbook.analysis import total_memory

    overall, lines = figures.overall, list[str]()
    if not any("utilisation_percent" in gpu.readings for gpu in figures.gpus):
        lines += _section("GPU Utilization (%)", overall.get("utilisation_percent"), _percent)
        lines += _section("Memory Bandwidth Utilization (%)", overall.get("memory_activity_percent"), _percent)
    if all("memory_bytes" not in gpu.readings or gpu.readings["memory_bytes"].by_torch for gpu in figures.gpus):
        lines += _section("Memory Used per GPU", overall.get("memory_each_bytes"), _gigabytes)
    if lines:
        yield ["AVERAGE OF ALL GPUs:", *lines]
    total = total_memory(run, figures)
    if total is None:
        return
    count, reading = total
    lines = [f"TOTAL ACROSS ALL {f'{count} ' if count else ''}GPUs:"]
    for name, value in zip(("Current", "Average", "Maximum"), reading.values, strict=True):
        if value is not None:
            lines.append(f"  {name} Total Memory:  {value / _GIBIBYTE_BYTES:.1f} GB")
    capacity = overall.get("memory_total_bytes")
    if not count and capacity is not None and capacity.current is not None:
        lines.append(f"  Memory of All GPUs:  {capacity.current / _GIBIBYTE_BYTES:.1f} GB")
    yield lines


# -- what the machine's own series say ----------------------------------------------------------------------------


def _full_lines(run: RecordedRun, figures: GpuFigures) -> Iterator[str]:
    """All quantities of the GPUs that were at work; of all where none was."""
    shown = figures.shown
    blocks: list[list[str]] = []
    if not figures.gpus:
        blocks.append(["No single GPU has metrics of its own; these are what the trainer logged of all."])
    elif not figures.active:
        blocks.append([f"Detected 0 active GPUs: {_unused(figures.gpus)}"])
    else:
        idle = [gpu for gpu in figures.gpus if not gpu.is_active]
        beside = f" ({_unused(idle)})" if idle else ""
        blocks.append([f"Detected {len(shown)} active GPU{'' if len(shown) == 1 else 's'}{beside}"])
    blocks += [[f"GPU {printable(gpu.name)}:", *_all_of_gpu(gpu)] for gpu in shown]
    yield from _paragraphs([*blocks, *_overall(run, figures)])


def _unused(gpus: Sequence[Gpu]) -> str:
    names = ", ".join(printable(gpu.name) for gpu in gpus)
    return f"{'GPU' if len(gpus) == 1 else 'GPUs'} {names} not used by this run"


def _all_of_gpu(gpu: Gpu) -> Iterator[str]:
    memory, share = gpu.readings.get("memory_bytes"), gpu.readings.get("memory_percent")
    if memory is not None:
        title = "Memory Allocated by torch" if memory.by_torch else "Memory Allocated"
        shares = share.values if share is not None else (None, None, None)
        texts = [
            None if value is None else _gigabytes(value) + ("" if part is None else f" ({_percent(part)})")
            for value, part in zip(memory.values, shares, strict=True)
        ]
        yield from _lines_of(title, texts)
    else:
        yield from _section("Memory Allocated", share, _percent)
    yield from _section("GPU Utilization", gpu.readings.get("utilisation_percent"), _percent)
    yield from _section("Power", gpu.readings.get("power_watts"), lambda watts: f"{watts:.1f} W")
    yield from _section("Temperature", gpu.readings.get("temperature_celsius"), lambda degrees: f"{degrees:.0f}°C")


# -- lines --------------------------------------------------------------------------------------------------------


def _section(title: str, reading: Reading | None, written: Callable[[float], str]) -> list[str]:
    if reading is None:
        return []
    return _lines_of(title, [None if value is None else written(value) for value in reading.values])


def _lines_of(title: str, texts: Sequence[str | None]) -> list[str]:
    named = zip(("Current", "Average", "Maximum"), texts, strict=True)
    return [f"  {title}:", *(f"    {name}:  {text}" for name, text in named if text is not None)]


def _paragraphs(blocks: Sequence[Sequence[str]]) -> Iterator[str]:
    for position, block in enumerate(blocks):
        if position:
            yield ""
        yield from block


def _megabytes(value: float) -> str:
    return f"{value / _MEBIBYTE_BYTES:.1f} MB ({_gigabytes(value)})"


def _gigabytes(value: float) -> str:
    return f"{value / _GIBIBYTE_BYTES:.2f} GB"


def _percent(value: float) -> str:
    return f"{value:.1f}%"


# -- nothing to answer with ---------------------------------------------------------------------------------------


def _nothing(run: RecordedRun) -> str:
    """Which keys there are, and what to install or turn on."""
    keys = run.keys()
    strange = [key for key in keys if group_of(key) == "GPU"]
    if not keys:
        has = "it has logged no metric yet" if run.state == "running" else "it has logged no metric"
    else:
        named = strange or keys
        more = len(named) - _NAMED_KEYS
        listed = ", ".join(map(printable, named[:_NAMED_KEYS])) + (
            f" and {more} more (`lossbook keys` lists them)" if more > 0 else ""
        )
        has = f"it has {listed}, and none of these names is known" if strange else f"it has {listed}"
    return f"No GPU metrics found in this run: {has}. {_capitalised(_advice(run, keys))}."


def _advice(run: RecordedRun, keys: Sequence[str]) -> str:
    """What to turn on so that the next run has GPU metrics."""
    from lossbook.trackers import SOURCES, source_class

    info = run.known_info
    kind = (info.source.kind if info.source is not None else None) or ""
    if kind in SOURCES and (advice := source_class(kind).gpu_advice):
        return advice
    if info.system_metrics is False:
        return (
            "it was recorded with system_metrics=False: leave that out, and pip install 'lossbook[gpu]' where it trains"
        )
    if any(key.startswith(("system.proc.", "cpu_percent")) for key in keys):
        return (
            "its machine was measured, and no GPU could be read there: for NVIDIA, pip install 'lossbook[gpu]' where it "
            "trains, and see that nvidia-smi works"
        )
    return (
        "lossbook measures GPUs beside the training: pip install 'lossbook[gpu]' where it trains, and let neither "
        "LOSSBOOK_SYSTEM_INTERVAL nor LOSSBOOK_FOLLOWER be off"
    )


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
