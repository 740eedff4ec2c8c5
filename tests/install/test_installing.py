"""What an installation builds and ships: the dashboard's page, without Node.js wherever it is built already.

The build runs here with a stand-in for Node.js that notes what it is asked for; `make lint` and the installation that
these tests run in have used the real one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import build_ui
import pytest

ROOT = Path(__file__).resolve().parents[2]
UI = ROOT / "lossbook" / "web" / "ui"

#: Fails at the step that the file `failing` beside it names; a page is its sources, joined.
NODE = f"""#!{sys.executable}
import json, os, pathlib, sys, time
here = pathlib.Path(__file__).resolve().parent
step = {{
    "npm-cli.js": "npm", "tsc": "tsc", "vite.js": "vite", "biome": "biome", "vitest.mjs": "vitest"
}}[pathlib.Path(sys.argv[1]).name]
with open(here / "asked", "a") as asked:
    asked.write(step + "\\n")
failing = here / "failing"
if failing.exists() and failing.read_text() == step:
    print("npm error code ENOTFOUND" if step == "npm" else "src/main.tsx(1,1): error TS1005: ';' expected.")
    print("    at a long trace of Node.js")
    sys.exit(3)
assert os.environ["PATH"].split(os.pathsep)[0] == str(here), "this Node.js is first on PATH"
if step == "npm":
    packages = json.loads(pathlib.Path("package-lock.json").read_text())["packages"]
    omits = "--omit=dev" in sys.argv
    note = {{
        name: package
        for name, package in packages.items()
        if name and not package.get("optional") and not (omits and package.get("dev"))
    }}
    pathlib.Path("node_modules").mkdir(exist_ok=True)
    pathlib.Path("node_modules/.package-lock.json").write_text(json.dumps({{"packages": note}}))
    pathlib.Path("node_modules/package.ts").write_text("")
if step == "vite":
    page = pathlib.Path(sys.argv[sys.argv.index("--outDir") + 1])
    (page / "assets").mkdir(parents=True)
    time.sleep(0.2)  # a build takes a while: another one may begin meanwhile
    for name in ("index.html", "assets/app.css", "licenses.txt"):
        (page / name).write_text(name)
    (page / "assets/app.js").write_text("".join(path.read_text() for path in sorted(pathlib.Path("src").iterdir())))
"""


@dataclass
class Checkout:
    """Sources of a page, and a Node.js that notes what it was asked for."""

    root: Path
    node: Path

    @property
    def page(self) -> build_ui.Page:
        return build_ui.Page(self.root, self.node)

    @property
    def source(self) -> Path:
        return self.root / "lossbook" / "web" / "ui" / "src" / "main.tsx"

    @property
    def script(self) -> str:
        return (self.root / "lossbook" / "web" / "static" / "assets" / "app.js").read_text()

    def asked(self) -> list[str]:
        """What Node.js was asked for since the last call."""
        notes = self.node.with_name("asked")
        steps = notes.read_text().split() if notes.exists() else []
        notes.unlink(missing_ok=True)
        return steps


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    node = tmp_path / "node" / "bin" / "node"
    node.parent.mkdir(parents=True)
    node.write_text(NODE)
    node.chmod(0o755)
    made = Checkout(tmp_path / "checkout", node)
    made.source.parent.mkdir(parents=True)
    made.source.write_text("one;")
    shutil.copy(UI / "package-lock.json", made.source.parents[1])
    return made


def test_a_page_is_built_from_locked_packages_and_checked_types(checkout: Checkout) -> None:
    assert checkout.page.build()
    assert checkout.asked() == ["npm", "tsc", "vite"]
    assert checkout.script == "one;"


def test_a_page_that_is_up_to_date_is_left_alone_and_needs_no_node(checkout: Checkout) -> None:
    checkout.page.build()
    assert not build_ui.Page(checkout.root, node=Path("/nowhere/node")).build()
    os.utime(checkout.source)  # a fresh checkout has fresh times
    assert not build_ui.Page(checkout.root, node=Path("/nowhere/node")).build()


def test_changed_sources_are_built_anew_with_the_packages_that_are_there(checkout: Checkout) -> None:
    checkout.page.build()
    checkout.asked()
    checkout.source.write_text("two;")
    assert not checkout.page.is_current()
    assert checkout.page.build()
    assert checkout.asked() == ["tsc", "vite"]
    assert checkout.script == "two;"


def test_a_source_that_is_renamed_added_or_removed_counts_as_a_change(checkout: Checkout) -> None:
    digests = [checkout.page.digest()]
    moved = checkout.source.rename(checkout.source.with_name("other.tsx"))
    digests.append(checkout.page.digest())
    (moved.parent / "empty.ts").touch()
    digests.append(checkout.page.digest())
    moved.unlink()
    digests.append(checkout.page.digest())
    assert len(set(digests)) == 4


def test_packages_and_hidden_files_are_no_sources(checkout: Checkout) -> None:
    digest = checkout.page.digest()
    (checkout.source.parents[1] / "node_modules").mkdir()
    (checkout.source.parents[1] / "node_modules" / "index.js").write_text("")
    (checkout.source.parent / ".main.tsx.swp").write_text("")
    assert checkout.page.digest() == digest


def test_a_build_installs_no_package_that_only_checks_need(checkout: Checkout) -> None:
    note = checkout.source.parents[1] / "node_modules" / ".package-lock.json"
    checkout.page.build()
    built_with = json.loads(note.read_text())["packages"]
    assert "node_modules/vite" in built_with
    assert not {"node_modules/vitest", "node_modules/@biomejs/biome"} & built_with.keys()
    checkout.asked()
    checkout.page.lint()
    assert checkout.asked() == ["npm", "biome", "tsc"]
    checkout.page.test()
    assert checkout.asked() == ["vitest"]
    checkout.source.write_text("two;")
    checkout.page.build()
    assert checkout.asked() == ["tsc", "vite"], "with more packages than a build needs, none is installed anew"


def test_the_page_is_not_built_anew_when_its_unit_tests_change(checkout: Checkout) -> None:
    checkout.page.build()
    tests = checkout.source.parents[1] / "tests"
    tests.mkdir()
    (tests / "one.test.ts").write_text("")
    (checkout.source.parents[1] / "biome.jsonc").write_text("{}")
    assert checkout.page.is_current()


@pytest.mark.parametrize("step", ["biome", "vitest"])
def test_a_check_that_fails_is_told_in_a_sentence_below_its_output(checkout: Checkout, step: str) -> None:
    checkout.node.with_name("failing").write_text(step)
    with pytest.raises(build_ui.BuildFailed, match="above"):
        checkout.page.lint() if step == "biome" else checkout.page.test()


def test_a_changed_lock_file_installs_its_packages(checkout: Checkout) -> None:
    checkout.page.build()
    checkout.asked()
    lock = checkout.source.parents[1] / "package-lock.json"
    packages = json.loads(lock.read_text())
    packages["packages"]["node_modules/preact"]["integrity"] = "sha512-of-another"
    lock.write_text(json.dumps(packages))
    assert checkout.page.build()
    assert checkout.asked() == ["npm", "tsc", "vite"]


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        ("npm", "`npm ci` ended with 3: npm error code ENOTFOUND"),
        ("tsc", "`tsc --noEmit` ended with 3: src/main.tsx(1,1): error TS1005: ';' expected."),
        ("vite", "`vite build` ended with 3"),
    ],
)
def test_a_failed_build_says_so_in_a_line_and_leaves_the_page_as_it_was(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: str, sentence: str
) -> None:
    checkout.page.build()
    shutil.rmtree(checkout.source.parents[1] / "node_modules")
    checkout.source.write_text("two;")
    checkout.node.with_name("failing").write_text(step)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    with pytest.raises(build_ui.BuildFailed) as failure:
        checkout.page.build()

    said = str(failure.value)
    assert said.startswith("Lossbook's page was not built: " + sentence)
    assert "\n" not in said
    log = re.search(r"all it said: (\S+\.log)\)", said)
    assert log
    assert "a long trace of Node.js" in Path(log[1]).read_text()
    assert checkout.script == "one;"
    assert not checkout.page.is_current()


def test_a_build_without_an_index_is_none(checkout: Checkout) -> None:
    checkout.node.write_text(NODE.replace('"index.html", ', ""))
    with pytest.raises(build_ui.BuildFailed, match=r"left no index\.html"):
        checkout.page.build()
    assert not (checkout.root / "lossbook" / "web" / "static").exists()


def test_of_two_builds_at_once_one_builds(checkout: Checkout) -> None:
    code = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1]); import build_ui;"
        "print(build_ui.Page(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])).build())"
    )
    command = [sys.executable, "-c", code, str(ROOT / "scripts"), str(checkout.root), str(checkout.node)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sorted(one.communicate(timeout=60)[0].strip() for one in both) == ["False", "True"]
    assert checkout.asked() == ["npm", "tsc", "vite"]
    assert checkout.page.is_current()


# What is shipped.


@pytest.fixture
def project(checkout: Checkout) -> Checkout:
    """This project with a built page, the packages that it was built with beside it."""
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, checkout.root)
    (checkout.root / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "build_ui.py", checkout.root / "scripts")
    shutil.rmtree(checkout.root / "lossbook")
    shutil.copytree(
        ROOT / "lossbook",
        checkout.root / "lossbook",
        ignore=shutil.ignore_patterns("node_modules", "static", ".build", "__pycache__"),
    )
    source = checkout.source  # the stand-in joins what lies in src/
    shutil.rmtree(source.parent)
    source.parent.mkdir()
    source.write_text("one;")
    return checkout


def hatchling(folder: Path, *arguments: str) -> str:
    """Hatchling's output, where no program but Python can be found."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={"PATH": "/nowhere"}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(folder: Path, target: str, place: Path) -> Path:
    hatchling(folder, "-m", "hatchling", "build", "--target", target, "--directory", str(place))
    (built,) = place.iterdir()
    return built


def in_wheel(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_has_the_page_and_none_of_its_sources(project: Checkout, tmp_path: Path) -> None:
    project.page.build()
    shipped = in_wheel(build(project.root, "wheel", tmp_path / "wheel"))
    assert {f"lossbook/web/static/{name}" for name in build_ui.PAGE_FILES} <= set(shipped)
    assert "lossbook/web/__init__.py" in shipped
    assert [
        name for name in shipped if "node_modules" in name or "/ui/" in name or name.endswith((".ts", ".tsx"))
    ] == []
    assert [name for name in shipped if not name.startswith(("lossbook/", "lossbook-"))] == []


def test_a_wheel_from_the_source_distribution_is_the_same_without_node(project: Checkout, tmp_path: Path) -> None:
    project.page.build()
    with tarfile.open(build(project.root, "sdist", tmp_path / "sdist")) as archive:
        names = archive.getnames()
        archive.extractall(tmp_path / "unpacked", filter="data")
    assert [name for name in names if "node_modules" in name or "/.build/" in name] == []
    assert any(name.endswith("lossbook/web/ui/src/main.tsx") for name in names)
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    from_source = in_wheel(build(unpacked, "wheel", tmp_path / "from_source"))
    assert from_source == in_wheel(build(project.root, "wheel", tmp_path / "wheel"))


@pytest.mark.parametrize("kind", ["wheel", "editable", "sdist"])
def test_node_is_asked_for_only_where_the_page_has_to_be_built(project: Checkout, kind: str) -> None:
    asking = f"from hatchling import build; print(build.get_requires_for_build_{kind}())"
    assert build_ui.NODE_REQUIREMENT in hatchling(project.root, "-c", asking)
    project.page.build()
    assert "nodejs" not in hatchling(project.root, "-c", asking)


def test_the_lock_file_says_what_and_not_where_from() -> None:
    text = (UI / "package-lock.json").read_text()
    packages = {name: package for name, package in json.loads(text)["packages"].items() if name}
    assert "node_modules/preact" in packages
    assert [name for name, package in packages.items() if not package.get("integrity", "").startswith("sha512-")] == []
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert "registry" not in text


def test_the_page_asks_for_exact_versions() -> None:
    asked = json.loads((UI / "package.json").read_text())
    versions = {**asked["dependencies"], **asked["devDependencies"]}
    assert [name for name, version in versions.items() if not re.fullmatch(r"\d+\.\d+\.\d+", version)] == []


class Tags(HTMLParser):
    """Every tag with its attributes, and the text within scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, text: str) -> None:
        if self.tags and self.tags[-1][0] in ("script", "style"):
            self.inline += text.strip()


def test_the_installed_page_is_one_script_and_one_style_sheet_with_nothing_inline() -> None:
    static = ROOT / "lossbook" / "web" / "static"
    page = Tags((static / "index.html").read_text())
    assert [tag["src"] for name, tag in page.tags if name == "script"] == ["./assets/app.js"]
    assert [tag["href"] for name, tag in page.tags if name == "link" and tag["rel"] == "stylesheet"] == [
        "./assets/app.css"
    ]
    assert page.inline == ""
    assert [tag for _, tag in page.tags if "style" in tag or any(name.startswith("on") for name in tag)] == []
    assert sorted(path.name for path in static.rglob("*.js")) == ["app.js"]
    assert sorted(path.name for path in static.rglob("*.css")) == ["app.css"]
    assert list(static.rglob("*.map")) == []


def test_the_page_comes_with_the_licences_of_what_is_in_it() -> None:
    licences = (ROOT / "lossbook" / "web" / "static" / "licenses.txt").read_text()
    for name in json.loads((UI / "package.json").read_text())["dependencies"].keys() - {"typescript", "vite"}:
        assert re.search(rf"^## {re.escape(name)} - [\d.]+ \(\S+\)$", licences, re.MULTILINE), name
