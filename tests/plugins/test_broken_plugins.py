"""What is wrong with another package's entry is one sentence, and nothing else fails."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from installed import Place
from waiting import wait_until

from lossbook.registry import ALERT_SINKS, COMMANDS, DETECTORS, MIRRORS, SOURCES

GROUPS = [registry.group for registry in (MIRRORS, SOURCES, DETECTORS, ALERT_SINKS, COMMANDS)]
TRAIN = """
import lossbook
with lossbook.init(project="lab", name="first", console=False) as run:
    for step in range(20):
        run.log({"train/loss": 1 / (step + 1)}, step=step)
print(run.path)
"""
DETECTOR = """
from lossbook.diagnosis import Detector
class Thing(Detector):
    kind, title = "odd", "odd"
    def watch(self, key, rank):
        return self.take
    def take(self, value, step, time_us):
        1 / 0
"""
SOURCE = """
from lossbook.trackers.source import Source
class Thing(Source):
    kind, title = "odd", "odd"
    @classmethod
    def matches(cls, location):
        1 / 0
    def runs(self): return iter(())
    def rows(self, run, start=0): return iter(())
"""


def warnings(place: Place) -> list[str]:
    """What doctor says of other packages."""
    found: list[str] = json.loads(place.lossbook("doctor", "--json").stdout)["plugins"]["warnings"]
    return found


def record(place: Place, **environment: str) -> subprocess.CompletedProcess[str]:
    ran = place.python("-c", TRAIN, **environment)
    assert ran.returncode == 0, ran.stderr
    return ran


@pytest.mark.parametrize("error", ["RuntimeError", "SystemExit"])
@pytest.mark.parametrize("group", GROUPS)
def test_a_module_that_cannot_be_imported_stops_nothing(place: Place, group: str, error: str) -> None:
    place.install("torn-package", group, "odd", f"raise {error}('no license\\nand more')")
    (sentence,) = warnings(place)
    assert f"'odd' of the package torn-package 2.5 cannot be used ({error}: no license)" in sentence
    record(place)
    for arguments in (("ls",), ("check",), ("curve", "latest", "train/loss"), ("--help",)):
        ended = place.lossbook(*arguments)
        assert ended.returncode == 0, ended.stderr
        assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("group", "code", "why"),
    [(group, "class Thing: kind, title = 'odd', 'odd'", "is no subclass of") for group in GROUPS[:-1]]
    + [
        (COMMANDS.group, "def Thing(): pass", "is no click.Command"),
        (
            MIRRORS.group,
            "from lossbook.trackers.mirror import Mirror\nclass Thing(Mirror): kind = 'odd'",
            "lacks close",
        ),
        (
            DETECTORS.group,
            "from lossbook.diagnosis import Detector\nclass Thing(Detector): kind = 'other'",
            "kind = 'odd'",
        ),
        (
            DETECTORS.group,
            "from lossbook.diagnosis import Detector\nclass Thing(Detector): kind = 'odd'",
            "has no title",
        ),
    ],
)
def test_what_is_something_else_is_said(place: Place, group: str, code: str, why: str) -> None:
    place.install("torn-package", group, "odd", code)
    (sentence,) = warnings(place)
    assert why in sentence


@pytest.mark.parametrize(
    ("group", "name"),
    [(MIRRORS.group, "wandb"), (MIRRORS.group, "both"), (MIRRORS.group, "team-offline"), (SOURCES.group, "logs"),
     (SOURCES.group, "file"), (DETECTORS.group, "spike"), (ALERT_SINKS.group, "webhook"), (COMMANDS.group, "ls")],
)  # fmt: skip
def test_a_name_of_lossbooks_own_stays_its_own(place: Place, group: str, name: str) -> None:
    place.install("greedy", group, name, "raise SystemExit('taken')")
    (sentence,) = warnings(place)
    assert f"{name!r} of the package greedy 2.5 is not used: that name is Lossbook's own" in sentence
    record(place)
    assert place.lossbook("ls").returncode == 0
    assert place.lossbook("check").returncode == 0


def test_of_two_packages_with_one_name_the_first_is_used_and_the_other_named(place: Place) -> None:
    for package in ("aardvark", "zebra"):
        code = f"import click\n@click.command()\ndef Thing():\n    click.echo({package!r})\n"
        place.install(package, COMMANDS.group, "odd", code)
    assert place.lossbook("odd").stdout == "aardvark\n"
    (sentence,) = warnings(place)
    assert "zebra 2.5 is not used: aardvark 2.5 has one of that name" in sentence


def test_a_name_that_no_option_could_hold_is_said(place: Place) -> None:
    place.install("loud", MIRRORS.group, "Team.Tracker", "Thing = 1")
    (sentence,) = warnings(place)
    assert "small letters" in sentence


def test_a_broken_command_is_told_to_who_calls_it_and_left_out_of_the_list(place: Place) -> None:
    place.install("torn-package", COMMANDS.group, "odd", "import a_library_that_is_not_there")
    ended = place.lossbook("odd")
    assert ended.returncode == 1
    assert ended.stderr.startswith("lossbook: the command 'odd' of the package torn-package 2.5 cannot be used (Module")
    assert len(ended.stderr.splitlines()) == 1
    listed = place.lossbook("--help")
    assert listed.returncode == 0
    assert "odd" not in listed.stdout


def test_a_broken_source_is_told_to_who_names_it(place: Place) -> None:
    place.install("torn-package", SOURCES.group, "odd", "import a_library_that_is_not_there")
    ended = place.lossbook("ls", "--store", "odd://x")
    assert ended.returncode == 1
    assert "the source 'odd' of the package torn-package 2.5 cannot be used" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_source_that_fails_to_look_is_passed_over(place: Place) -> None:
    place.install("torn-package", SOURCES.group, "odd", SOURCE)
    (place.folder / "log.jsonl").write_text('{"step": 3, "loss": 1.5}\n')
    ended = place.lossbook("ls", "--store", "log.jsonl")
    assert ended.returncode == 0
    assert "log" in ended.stdout
    (said,) = ended.stderr.splitlines()
    assert "the source 'odd' of the package torn-package 2.5 cannot tell whether it reads" in said


def test_a_detector_that_fails_takes_no_other_with_it(place: Place) -> None:
    place.install("torn-package", DETECTORS.group, "odd", DETECTOR)
    ran = place.python("-c", TRAIN.replace("1 / (step + 1)", "float('nan')"))
    assert ran.returncode == 0
    checked = place.lossbook("check", "--json")
    assert checked.returncode == 1
    assert [one["kind"] for one in json.loads(checked.stdout)["findings"]] == ["nonfinite"]
    (said,) = checked.stderr.splitlines()
    assert "the detector 'odd' of the package torn-package 2.5 failed (ZeroDivisionError" in said


def test_a_broken_mirror_is_said_once_and_the_run_is_whole(place: Place, follower: None) -> None:
    place.install("torn-package", MIRRORS.group, "odd", "import a_library_that_is_not_there")
    folder = Path(record(place, LOSSBOOK_MIRRORS="odd").stdout.strip())
    log = folder / "followers" / "odd.log"
    wait_until(lambda: log.exists() and "cannot be used" in log.read_text(), 60)
    wait_until(lambda: list(folder.glob("metrics/*.parquet")), 60)
    synced = place.lossbook("sync", folder.name, "--to", "odd")
    assert synced.returncode == 1
    assert "the mirror 'odd' of the package torn-package 2.5 cannot be used" in synced.stderr


def test_a_mirror_that_is_not_installed_any_more_is_said(place: Place) -> None:
    place.install("gone", MIRRORS.group, "odd", "import a_library_that_is_not_there")
    folder = Path(record(place, LOSSBOOK_MIRRORS="odd").stdout.strip())
    for path in place.site.glob("gone*/*"):
        path.unlink()
    synced = place.lossbook("sync", folder.name)
    assert synced.returncode == 1
    assert "there is no mirror 'odd'" in synced.stderr
    assert len(synced.stderr.splitlines()) == 1


def test_neither_importing_lossbook_nor_a_run_reads_what_is_installed(place: Place) -> None:
    place.install("torn-package", MIRRORS.group, "odd", "raise SystemExit('imported')")
    code = (
        TRAIN + "import sys\nassert 'importlib.metadata' not in sys.modules\nassert 'torn_package' not in sys.modules\n"
    )
    ran = place.python("-c", code, LOSSBOOK_MIRRORS="tensorboard", LOSSBOOK_FOLLOWER="off")
    assert ran.returncode == 0, ran.stderr
    # A mirror of another package is known by its name, and its code stays out of the training.
    ran = place.python(
        "-c", code.replace("assert 'importlib.metadata' not in sys.modules\n", ""), LOSSBOOK_MIRRORS="odd"
    )
    assert ran.returncode == 0, ran.stderr
