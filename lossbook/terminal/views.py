"""GPUs, console and overview of the run in focus."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lossbook.formatting import clip, number, pad, text_width
from lossbook.terminal.model import Model
from lossbook.terminal.styled_text import STATE_COLORS, Span, TextLine, visible

if TYPE_CHECKING:
    from lossbook.analysis import Gpu, Reading

_GIBIBYTE_BYTES = 2.0**30
_HOT_CELSIUS = 83.0


def _heading(model: Model, *more: str) -> TextLine:
    run = model.focused
    if run is None:
        return [Span(" no run", dim=True)]
    dot = " · " if model.unicode else " | "
    name = clip(visible(run.name, unicode=model.unicode), model.width // 2, ellipsis="…" if model.unicode else "~")
    line = [Span(f" {name}", bold=True), Span(f"  {run.state}", STATE_COLORS.get(run.state))]
    return [*line, *(Span(dot + text, dim=True) for text in more if text)]


def _is_read(model: Model) -> bool:
    run = model.focused
    return run is not None and model.snapshot.about == run.path


# -- GPUs ---------------------------------------------------------------------------------------------------------


def gpus_view(model: Model, width: int, height: int) -> list[TextLine]:
    """A line for each GPU: utilisation, memory, power and heat as they were last, by node."""
    figures, overview = model.snapshot.gpus, model.snapshot.overview
    if not _is_read(model) or figures is None or overview is None:
        return [_heading(model), [Span("   reading ...", dim=True)]]
    lines: list[TextLine] = []
    bar = max(6, min(40, (width - 46) // 2))
    if figures.gpus:
        lines.append(
            [
                Span(
                    f" {'GPU':<5}{pad('utilisation', bar + 7)}{pad('memory', bar + 17)}{'power':>6}  {'heat':>6}",
                    bold=True,
                )
            ]
        )
    held: object = None
    several = len(overview.node_ranks) > 1 or any(gpu.node for gpu in figures.gpus)
    for gpu in figures.gpus:
        node = gpu.node or overview.node_ranks[bisect_right(overview.node_ranks, gpu.number) - 1]
        if several and node != held:
            held = node
            host = f" {overview.host}" if node == 0 and overview.host else ""
            lines.append([Span(visible(f" node {node}{host}", unicode=model.unicode), bold=True)])
        lines.append(_gpu(model, gpu, bar))
    if figures.gpus:
        lines += _means(model, figures.shown, width)
    else:
        lines += _overall(figures.overall)
    host = "" if several else visible(overview.host, unicode=model.unicode)
    return _scrolled(model, [_heading(model, host)], lines, height)


def _current(reading: Reading | None) -> float | None:
    return reading.current if reading is not None else None


def _gpu(model: Model, gpu: Gpu, bar: int) -> TextLine:
    readings = gpu.readings
    used, total = _current(readings.get("memory_bytes")), readings.get("memory_total_bytes")
    busy, share = _current(readings.get("utilisation_percent")), _current(readings.get("memory_percent"))
    capacity = total.maximum if total is not None else None
    if share is None and used is not None and capacity:
        share = 100 * used / capacity
    line = [Span(f" {gpu.number:<5}", bold=gpu.is_active, dim=not gpu.is_active)]
    line += [*_bar(model, busy, bar, "green"), Span(f" {_percent(busy):>5} ")]
    held = f"{used / _GIBIBYTE_BYTES:.1f}" if used is not None else ""
    held += f"/{capacity / _GIBIBYTE_BYTES:.0f}" if capacity and held else ""
    text = f"{held} GB" if held else _percent(share)
    line += [*_bar(model, share, bar, "cyan"), Span(f" {text:<15} ")]
    power, heat = _current(readings.get("power_watts")), _current(readings.get("temperature_celsius"))
    line.append(Span(f"{'-' if power is None else f'{power:.0f} W':>6}  "))
    degrees = "°C" if model.unicode else "C"
    hot = heat is not None and heat >= _HOT_CELSIUS
    line.append(Span(f"{'-' if heat is None else f'{heat:.0f} {degrees}':>6}", "red" if hot else None, bold=hot))
    if not gpu.is_active:
        line.append(Span("  not used", dim=True))
    return line


def _percent(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.0f} %"


def _bar(model: Model, percent: float | None, width: int, color: str) -> TextLine:
    filled = 0 if percent is None or not math.isfinite(percent) else round(min(100.0, max(0.0, percent)) / 100 * width)
    full, empty = ("█", "░") if model.unicode else ("#", ".")
    return [Span(full * filled, color), Span(empty * (width - filled), dim=True)]


def _means(model: Model, gpus: Sequence[Gpu], width: int) -> list[TextLine]:
    """Mean and extremes over the run, for the quantities that the bars show as they are now."""
    lines: list[TextLine] = [[], [Span(" over the whole run", bold=True)]]
    units = (
        ("utilisation_percent", "utilisation", 1.0, "%"),
        ("memory_activity_percent", "memory traffic", 1.0, "%"),
        ("memory_bytes", "memory", _GIBIBYTE_BYTES, "GB"),
        ("power_watts", "power", 1.0, "W"),
        ("temperature_celsius", "heat", 1.0, "°C" if model.unicode else "C"),
    )
    for quantity, title, divisor, unit in units:
        found = [gpu.readings[quantity] for gpu in gpus if quantity in gpu.readings]
        averages = [one.average for one in found if one.average is not None]
        most = [one.maximum for one in found if one.maximum is not None]
        if averages and most:
            text = f"mean {sum(averages) / len(averages) / divisor:.1f} {unit}, most {max(most) / divisor:.1f} {unit}"
            if len(averages) > 1 and quantity == units[0][0]:
                # A straggler shows here: one GPU that does less than the others.
                low = min(range(len(averages)), key=averages.__getitem__)
                text += f", lowest mean {averages[low] / divisor:.1f} {unit} (GPU {gpus[low].number})"
            lines.append([Span(f" {title:<16}"), Span(text)])
    return lines


def _overall(overall: Mapping[str, Reading]) -> list[TextLine]:
    lines: list[TextLine] = []
    names = {
        "utilisation_percent": ("utilisation", 1.0, "%"),
        "memory_activity_percent": ("memory traffic", 1.0, "%"),
        "memory_each_bytes": ("memory of each", _GIBIBYTE_BYTES, "GB"),
        "memory_bytes": ("memory", _GIBIBYTE_BYTES, "GB"),
        "memory_total_bytes": ("memory there is", _GIBIBYTE_BYTES, "GB"),
    }
    for quantity, reading in overall.items():
        title, divisor, unit = names.get(quantity, (quantity, 1.0, ""))
        known = [
            (word, value)
            for word, value in zip(("now", "mean", "most"), reading.values, strict=True)
            if value is not None
        ]
        lines.append(
            [Span(f" {title:<16}"), Span(", ".join(f"{word} {value / divisor:.1f} {unit}" for word, value in known))]
        )
    if lines:
        return [[Span(" means of all GPUs, as the trainer logged them", bold=True)], *lines]
    return [
        [],
        [Span(" This run has no series of a GPU.", dim=True)],
        [Span(" `lossbook gpu` says what to turn on so that the next one has.", dim=True)],
    ]


# -- console ------------------------------------------------------------------------------------------------------


def console_view(model: Model, width: int, height: int) -> list[TextLine]:
    """The end of what the run printed; follows it until somebody scrolls."""
    tail = model.snapshot.tail
    if not _is_read(model):
        return [_heading(model), [Span("   reading ...", dim=True)]]
    if tail is None:
        return [_heading(model), [], [Span(" Nothing that this run printed was kept.", dim=True)]]
    total = len(tail.lines) + bool(tail.unfinished)
    room = height - 1
    up = 0 if model.follow else min(model.scrolls.get("console", 0), max(0, total - room))
    if not model.follow:
        model.scrolls["console"] = up
    last = total - up
    first = max(0, last - room)
    matches = set(model.matches()) if model.found else set()
    names = model.snapshot.consoles
    chosen = model.console if model.console in names else names[0] if names else ""
    said = [
        f"{chosen} ({names.index(chosen) + 1} of {len(names)}, o: next)" if len(names) > 1 else chosen,
        "following" if model.follow else f"line {first + 1} to {last} of {total}",
        "only the end is held" if tail.dropped else "",
    ]
    if model.found:
        said.append(f"{len(matches)} with {visible(model.found, unicode=model.unicode)!r}")
    lines = [_heading(model, *said)]
    shift = model.scrolls.get("across", 0)
    for number_ in range(first, last):
        text = tail.lines[number_] if number_ < len(tail.lines) else tail.unfinished
        shown = visible(text, unicode=model.unicode)[shift:]
        here = model.found_at is not None and number_ + tail.first_number == model.found_at
        if number_ in matches:
            lines.append(_marked(shown, visible(model.found, unicode=model.unicode), here))
        else:
            lines.append([Span(shown)])
    return lines


def _marked(text: str, found: str, here: bool) -> TextLine:
    line: TextLine = []
    lowered, sought, at = text.lower(), found.lower(), 0
    while sought and (place := lowered.find(sought, at)) >= 0:
        line += [
            Span(text[at:place]),
            Span(text[place : place + len(sought)], None if here else "yellow", reverse=True, bold=here),
        ]
        at = place + len(sought)
    return [*line, Span(text[at:])]


# -- overview -----------------------------------------------------------------------------------------------------


def overview_view(model: Model, width: int, height: int) -> list[TextLine]:
    """Everything that is known of the run, to scroll through."""
    overview = model.snapshot.overview
    if not _is_read(model) or overview is None or not overview.sections:
        return [_heading(model), [Span("   reading ...", dim=True)]]
    lines: list[TextLine] = []
    if overview.error:
        lines += [
            [Span(f" {visible(line, unicode=model.unicode)}", "red")] for line in str(overview.error).splitlines()[-8:]
        ]
    for section in overview.sections:
        if lines:
            lines.append([])
        lines.append([Span(f" {section.title}", "red" if section.title == "problems" else None, bold=True)])
        names = [visible(name, unicode=model.unicode) for name, _ in section.entries]
        longest = min(max((text_width(name) for name in names), default=0), max(12, width // 3))
        for name, (_, text) in zip(names, section.entries, strict=True):
            shown = pad(clip(name, longest, ellipsis="…" if model.unicode else "~"), longest) + "  " if longest else ""
            room = max(10, width - 4 - text_width(shown))
            parts = _wrapped(visible(text, unicode=model.unicode), room)
            lines.append([Span("  "), Span(shown, dim=True), Span(parts[0])])
            lines += [[Span("  " + " " * text_width(shown)), Span(part)] for part in parts[1:4]]
    return _scrolled(model, [_heading(model)], lines, height)


def _wrapped(text: str, width: int) -> list[str]:
    if text_width(text) <= width:
        return [text]
    import textwrap

    return textwrap.wrap(text, width, max_lines=4, placeholder=" ...") or [""]


def _scrolled(model: Model, heading: list[TextLine], lines: list[TextLine], height: int) -> list[TextLine]:
    room = height - len(heading)
    first = min(model.scrolls.get(model.view, 0), max(0, len(lines) - room))
    model.scrolls[model.view] = first
    if len(lines) > room:
        last = min(len(lines), first + room)
        heading = [[*heading[0], Span(f"   {number(first + 1)} to {last} of {len(lines)}", dim=True)]]
    return [*heading, *lines[first : first + room]]
