"""Each list of mirrors, sources, detectors and alert sinks that a person reads has what its registry has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gpt2.arguments import parse as parse_gpt2_flags
from lossbook.diagnosis import detector_class
from lossbook.follower.sinks import sink_class, variable_of
from lossbook.registry import ALERT_SINKS, COMMANDS, DETECTORS, MIRRORS, REGISTRIES, SOURCES
from lossbook.trackers.mirrors import mirror_class

ROOT = Path(__file__).resolve().parents[2]
KCONFIG = (ROOT / "lossbook" / "Kconfig.tracking").read_text(encoding="utf-8")


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_the_menu_has_a_switch_for_each_mirror_under_its_title() -> None:
    switches = re.findall(r'^config ENABLE_(\w+)\n\tbool "(.+)"$', KCONFIG, re.MULTILINE)
    assert switches == [(name.upper(), mirror_class(name).title) for name in MIRRORS.own]
    assert f"{', '.join(MIRRORS.own)}, several with commas between" in KCONFIG


def test_the_trainers_help_names_each_mirror(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_gpt2_flags(["--help"])
    assert ",".join(MIRRORS.own) in "".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("kind", SOURCES.own)
def test_the_page_on_sources_names_each(kind: str) -> None:
    assert f"`{kind}`" in page("sources.md") or f"`{kind}://" in page("sources.md")


@pytest.mark.parametrize("kind", DETECTORS.own)
def test_the_page_on_diagnosis_has_a_line_for_each_detector(kind: str) -> None:
    assert f"\n| `{kind}` |" in page("diagnosis.md")
    assert detector_class(kind).kind == kind
    assert detector_class(kind).title


@pytest.mark.parametrize("kind", ALERT_SINKS.own)
def test_the_variable_of_each_alert_sink_is_documented(kind: str) -> None:
    assert sink_class(kind).kind == kind
    assert sink_class(kind).title
    assert f"`{variable_of(kind)}`" in page("diagnosis.md")
    assert f"`{variable_of(kind)}`" in page("configuration.md")


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda one: one.group)
def test_the_page_on_extending_names_each_group_and_the_example_uses_it(registry) -> None:  # type: ignore[no-untyped-def]
    assert f"`{registry.group}`" in page("extending.md")
    assert f'[project.entry-points."{registry.group}"]' in (ROOT / "examples/plugin/pyproject.toml").read_text()


def test_each_command_is_where_the_registry_says() -> None:
    assert all(COMMANDS.load(name) for name in COMMANDS.own)


def test_the_files_that_the_page_on_extending_names_are_there_and_at_most_three_each() -> None:
    sections = page("extending.md").split("\n## ")[1:]
    walks = {section.splitlines()[0]: section for section in sections if "\nFiles:" in section}
    assert {name.split(" ")[-1] for name in walks} >= {
        "alias",
        "mirror",
        "source",
        "chart",
        "command",
        "detector",
        "sink",
        "optimizer",
    }
    for name, section in walks.items():
        listed = section.split("\nFiles:\n\n")[1].split("\n\n")[0].splitlines()
        files = [line for line in listed if line.startswith(("1. ", "2. ", "3. ", "4. ", "5. "))]
        assert 1 <= len(files) <= 3, name
        for line in files:
            path = re.search(r"`([\w/.<>]+)`", line)
            assert path is not None, line
            if "<" in path[1]:  # a new file
                assert (ROOT / path[1].split("<")[0]).parent.is_dir(), line
            else:
                assert (ROOT / path[1]).exists(), line
