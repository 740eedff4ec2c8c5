"""The pieces of HTML that everything shown is made of: escaped text, tables, state marks, and the one style sheet.

Colours follow the notebook's theme: text takes the notebook's own colour, lines and backgrounds are translucent, and the
palette of curves has a second set for dark themes (JupyterLab, VS Code, Colab).
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lossbook.formatting import clip, printable

#: Those of the dashboard's palette, for light and for dark backgrounds.
LIGHT = ("#2f6bd0", "#c8501e", "#1e8a4c", "#a8327f", "#7a5cc4", "#8a6d00", "#0e8291", "#c2334d")
DARK = ("#6ea8ff", "#ff9a62", "#5fcf8d", "#f07fc6", "#b39dff", "#e3c04b", "#4fd0de", "#ff7d92")
_STATES_LIGHT = {"good": "#1a7a3f", "bad": "#b3261e", "warning": "#8f5a00", "live": "#2459b8"}
_STATES_DARK = {"good": "#66c98a", "bad": "#ff8a80", "warning": "#e5b04a", "live": "#82aef7"}
_STATE_KINDS = {"running": "live", "finished": "good", "failed": "bad", "crashed": "bad"}
#: How each notebook says that its theme is dark.
_DARK_THEMES = (
    '[data-jp-theme-light="false"] .lossbook',
    'body[data-vscode-theme-kind*="dark"] .lossbook',
    "body.vscode-dark .lossbook",
    "html[theme=dark] .lossbook",
)


class Html(str):
    """Text that is HTML already; everything else is escaped."""

    __slots__ = ()


class Cell(NamedTuple):
    """A cell of a table: numbers stand to the right."""

    content: object
    is_number: bool = False


def escaped(content: object, width: int = 400) -> Html:
    """A text as HTML: one line, without what could steer anything, cut short."""
    return content if isinstance(content, Html) else Html(html.escape(clip(printable(content), width)))


def page(parts: Iterable[str]) -> str:
    """One output of a notebook."""
    return f'<div class="lossbook">{_STYLE}{"".join(parts)}</div>'


def state(name: str) -> Html:
    """A run's state: a coloured dot and its word."""
    kind = _STATE_KINDS.get(name, "warning")
    return Html(f'<span class="lb-state lb-{kind}"><i></i>{escaped(name)}</span>')


def link(text: object, url: str | None) -> Html:
    """A text, and a link where there is a page of it."""
    shown = escaped(text)
    return Html(f'<a href="{html.escape(url)}" target="_blank" rel="noopener">{shown}</a>') if url else shown


def table(head: Sequence[Cell], rows: Iterable[Sequence[Cell]], note: str = "") -> Html:
    """A table, wider ones in a box that scrolls."""

    def line(cells: Sequence[Cell], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=lb-number' if one.is_number else ''}>{escaped(one.content, 80)}</{tag}>" for one in cells
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    below = f'<div class="lb-note">{escaped(note)}</div>' if note else ""
    return Html(
        f'<div class="lb-scroll"><table class="lb-table"><thead><tr>{line(head, "th")}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{below}"
    )


def facts(title: str, pairs: Iterable[tuple[object, object]]) -> Html:
    """Names and values side by side under a title, as many in a line as there is room; nothing where there are none."""
    # No definition list: notebooks have a style of their own for those.
    cells = "".join(f"<div><span>{escaped(name, 60)}</span><b>{escaped(value, 120)}</b></div>" for name, value in pairs)
    return (
        Html(f'<div class="lb-name">{escaped(title)}</div><div class="lb-facts">{cells}</div>') if cells else Html("")
    )


def _variables(palette: Sequence[str], states: dict[str, str]) -> str:
    colors = [f"--lb-{number}:{color}" for number, color in enumerate(palette)]
    return ";".join([*colors, *(f"--lb-{name}:{color}" for name, color in states.items())])


_STYLE = (
    "<style>"
    + "".join(
        line.strip()
        for line in (
            f".lossbook{{{_variables(LIGHT, _STATES_LIGHT)};--lb-line:rgba(125,134,148,.3);--lb-soft:rgba(125,134,148,.1);",
            "font:13px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','Liberation Sans',sans-serif;",
            "color:inherit;max-width:860px}",
            f"{','.join(_DARK_THEMES)}{{{_variables(DARK, _STATES_DARK)}}}",
            ".lossbook *{box-sizing:border-box}",
            ".lossbook a{color:var(--lb-live);text-decoration:none}.lossbook a:hover{text-decoration:underline}",
            ".lossbook .lb-card{border:1px solid var(--lb-line);border-radius:6px;padding:12px 14px;margin:4px 0}",
            ".lossbook .lb-head{display:flex;flex-wrap:wrap;gap:2px 12px;align-items:baseline}",
            ".lossbook .lb-title{font-size:15px;font-weight:600;overflow-wrap:anywhere}",
            ".lossbook .lb-soft,.lossbook .lb-note{opacity:.68;font-size:12px}.lossbook .lb-note{margin-top:4px}",
            ".lossbook .lb-bad-text{color:var(--lb-bad);white-space:pre-wrap;overflow-wrap:anywhere;margin-top:6px;",
            "font:12px/1.45 ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace}",
            ".lossbook .lb-state{display:inline-flex;align-items:center;gap:6px;white-space:nowrap}",
            ".lossbook .lb-state i{width:8px;height:8px;border-radius:50%;background:currentColor}",
            *(f".lossbook .lb-{name}{{color:var(--lb-{name})}}" for name in _STATES_LIGHT),
            ".lossbook .lb-name{font-size:12px;font-weight:600;margin-top:14px;padding-bottom:4px;",
            "border-bottom:1px solid var(--lb-line)}",
            ".lossbook .lb-facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(230px,1fr));gap:2px 28px;",
            "margin-top:6px}",
            ".lossbook .lb-facts div{min-width:0;display:flex;flex-wrap:wrap;justify-content:space-between;gap:0 10px}",
            ".lossbook .lb-facts span{opacity:.68;overflow-wrap:anywhere}",
            ".lossbook .lb-facts b{font-weight:400;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}",
            ".lossbook .lb-charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(360px,1fr));gap:12px;",
            "margin-top:12px}",
            ".lossbook .lb-scroll{overflow-x:auto}",
            ".lossbook table.lb-table{border-collapse:collapse;margin:6px 0 0;font-size:13px;border:0}",
            ".lossbook table.lb-table th,.lossbook table.lb-table td{text-align:left;padding:4px 18px 4px 0;border:0;",
            "white-space:nowrap;vertical-align:baseline;max-width:none;line-height:1.5}",
            ".lossbook table.lb-table th{font-weight:400;font-size:12px;opacity:.68}",
            ".lossbook table.lb-table thead,.lossbook table.lb-table tbody tr{background:none;border:0}",
            ".lossbook table.lb-table tbody tr td{border-top:1px solid var(--lb-line)}",
            ".lossbook table.lb-table .lb-number{text-align:right;font-variant-numeric:tabular-nums}",
            ".lossbook svg{display:block;width:100%;height:auto;overflow:visible}",
            ".lossbook .lb-legend{display:flex;flex-wrap:wrap;gap:2px 16px;font-size:12px;margin-bottom:2px}",
            ".lossbook .lb-legend span{display:inline-flex;align-items:center;gap:6px}",
            ".lossbook .lb-legend i{width:14px;height:3px;border-radius:2px}",
            ".lossbook .lb-legend b{font-weight:600;font-variant-numeric:tabular-nums}",
        )
    )
    + "</style>"
)
