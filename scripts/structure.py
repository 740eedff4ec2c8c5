"""Measures how the package is built: long files, circles, imports past a package's door, `Any`, `fmt: skip`.

    python scripts/structure.py            of this checkout
    python scripts/structure.py TREE ...   of other checkouts too, side by side

A package's door is its `__init__`. Counted are imports of `lossbook` by `lossbook`, inside functions and for type
checking too. Only the standard library is imported, so that any checkout can be measured with any Python.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

LONG_LINES = 400
_ANY = re.compile(r"\bAny\b")
_IMPORT = re.compile(r"from\s+[\"'](\.[^\"']*)[\"']")


class Package:
    """The modules of one checkout's package, and which imports which."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sources = {
            _module_name(path.relative_to(root)): path.read_text() for path in sorted((root / "lossbook").rglob("*.py"))
        }
        self.imports = {name: set(self._imported_by(name)) for name in self.sources}

    def _imported_by(self, name: str) -> Iterator[str]:
        for node in ast.walk(ast.parse(self.sources[name])):
            if isinstance(node, ast.Import):
                yield from (one.name for one in node.names if one.name in self.sources)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for one in node.names:
                    inner = f"{node.module}.{one.name}"
                    if inner in self.sources:
                        yield inner
                    elif node.module in self.sources:
                        yield node.module

    def past_doors(self) -> tuple[int, int]:
        """Pairs of a module and what it imports of another package: past that package's door, and through it."""
        past = through = 0
        for name, imported in self.imports.items():
            for other in imported:
                if _top(other) == _top(name) or other == "lossbook":
                    continue
                if self._is_door(other):
                    through += 1
                elif other.count(".") >= 2:  # a module of no package has no door
                    past += 1
        return past, through

    def _is_door(self, name: str) -> bool:
        return (self.root / name.replace(".", "/") / "__init__.py").exists()

    def circles(self) -> list[list[str]]:
        """Groups of modules that import each other, directly or not (strongly connected components)."""
        return _components(self.imports)


def measure(root: Path) -> dict[str, str]:
    """The figures of one checkout, by name."""
    package = Package(root)
    lines = {name: text.count("\n") + 1 for name, text in package.sources.items()}
    words = sum(len(_ANY.findall(text)) for text in package.sources.values())
    circles, past = package.circles(), package.past_doors()
    page = page_imports(root / "lossbook" / "web" / "ui" / "src")
    page_circles = _components(page)
    return {
        "Python modules, lines": f"{len(lines)}, {sum(lines.values()):,}",
        f"modules over {LONG_LINES} lines, the longest": (
            f"{sum(count > LONG_LINES for count in lines.values())}, {max(lines.values())}"
        ),
        "circles of imports: number, modules in them": f"{len(circles)}, {sum(map(len, circles))}",
        "imports past a package's door, through it": f"{past[0]}, {past[1]}",
        "`Any` in 1,000 lines": f"{1000 * words / sum(lines.values()):.1f} ({words:,})",
        "`fmt: skip` in the package, in the checkout": (
            f"{sum(text.count('# fmt: skip') for text in package.sources.values())}, {_skips(root)}"
        ),
        "circles of the page": f"{len(page_circles)}, {sum(map(len, page_circles))}",
    }


def _skips(root: Path) -> int:
    folders = ("lossbook", "tests", "benchmarks", "trainers", "gpt2", "bitnet", "scripts", "examples")
    files = [path for folder in folders for path in (root / folder).rglob("*.py")] + list(root.glob("*.py"))
    return sum(line.rstrip().endswith("# fmt: skip") for path in files for line in path.read_text().splitlines())


def page_imports(sources: Path) -> dict[str, set[str]]:
    """Which of the page's files imports which, by path."""
    files = {path.resolve() for ending in ("*.ts", "*.tsx") for path in sources.rglob(ending)}
    found: dict[str, set[str]] = {}
    for path in files:
        found[str(path)] = set()
        for named in _IMPORT.findall(path.read_text()):
            target = (path.parent / named).resolve()
            candidates = [target, *(target.with_name(f"{target.name}{ending}") for ending in (".ts", ".tsx"))]
            found[str(path)].update(str(one) for one in candidates if one in files)
    return found


def _module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _top(name: str) -> str:
    """The package below `lossbook` that a module belongs to."""
    return ".".join(name.split(".")[:2])


def _components(edges: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one node (Tarjan, 1972)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in sorted(edges.get(node, ())):
            if other not in number:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], number[other])
        if low[node] == number[node]:
            at = stack.index(node)
            component = stack[at:]
            del stack[at:]
            if len(component) > 1:
                found.append(sorted(component))

    sys.setrecursionlimit(10_000)
    for node in sorted(edges):
        if node not in number:
            visit(node)
    return found


def main() -> int:
    roots = [Path(one) for one in sys.argv[1:]] or [Path(__file__).resolve().parents[1]]
    columns = [measure(root) for root in roots]
    print("| measure | " + " | ".join(root.resolve().name for root in roots) + " |")
    print("| --- | " + " | ".join("---:" for _ in roots) + " |")
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(column[name] for column in columns) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
