"""`lossbook slurm`: the script that it writes does what it says, in a shell that plays Slurm's part."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded import Command

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.Popen[str]]:
    """Run a task of a script as a node would; `scontrol` notes what it is told."""
    monkeypatch.chdir(tmp_path)
    programs = tmp_path / "programs"
    programs.mkdir()
    scontrol = programs / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/scontrol.txt\n')
    scontrol.chmod(0o755)

    def run(script: str, task: int) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_ARRAY_JOB_ID": "42",
            "PYTHONPATH": str(REPOSITORY),
        }
        return subprocess.Popen(["bash", script], env=environment, stdout=subprocess.PIPE, text=True)

    return run


def test_a_command_of_ones_own_becomes_a_job_array(slurm, command: Command, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    written = command(
        "slurm",
        "--array",
        "0-7",
        "--jobs",
        4,
        "--gpus",
        1,
        "--time",
        "4:00:00",
        "--memory",
        "32G",
        "--setup",
        "export GREETING=hello",
        "-o",
        "job.sh",
        "--",
        "sh",
        "-c",
        'echo "$GREETING $1 $2"',
        "x",
        "a b",
        "s{task}.txt",
    )
    assert written.status == 0
    text = Path("job.sh").read_text()
    assert text.startswith("#!/bin/bash\n#SBATCH --job-name=lossbook\n#SBATCH --array=0-7%4\n")
    for line in ("--gpus=1", "--time=4:00:00", "--mem=32G", "--cpus-per-task=4", "--signal=B:USR1@120", "--requeue"):
        assert f"#SBATCH {line}\n" in text
    process = slurm("job.sh", 5)
    assert process.communicate(timeout=30)[0] == "hello a b s5.txt\n"
    assert process.returncode == 0
    assert not (tmp_path / "scontrol.txt").exists()


@pytest.mark.parametrize(("code", "status"), [("import sys; sys.exit(3)", 3), ("", 0)])
def test_the_task_ends_as_the_training_did(code: str, status: int, slurm, command: Command, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert command("slurm", "--array", "0", "-o", "job.sh", "--", sys.executable, "-c", code or "pass").status == 0
    process = slurm("job.sh", 0)
    process.communicate(timeout=30)
    assert process.returncode == status
    assert not (tmp_path / "scontrol.txt").exists()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_near_its_time_limit_the_training_saves_and_the_task_is_queued_again(
    number: int, slurm, command: Command, tmp_path: Path, wait_until: Callable[..., None]
) -> None:  # type: ignore[no-untyped-def]
    program = tmp_path / "training.py"
    program.write_text(
        "import pathlib, signal, sys, time\n"
        "def stop(*_):\n    time.sleep(0.2)  # saving takes a while\n    pathlib.Path('saved').touch(); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop); pathlib.Path('begun').touch(); time.sleep(60)  # until a signal\n"
    )
    assert command("slurm", "--array", "0-3", "-o", "job.sh", "--", sys.executable, str(program)).status == 0
    process = slurm("job.sh", 2)
    wait_until(lambda: Path("begun").exists())
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert Path("saved").exists()
    assert (tmp_path / "scontrol.txt").read_text() == "requeue 42_2\n"


@pytest.fixture
def checkout(slurm, tmp_path: Path) -> Path:  # type: ignore[no-untyped-def]
    """A folder that looks like a checkout, as far as the command looks."""
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "matrix.py").write_text(
        f"import runpy; runpy.run_path({str(REPOSITORY / 'scripts' / 'matrix.py')!r}, run_name='__main__')\n"
    )
    return tmp_path


@pytest.mark.slow
def test_the_matrix_becomes_a_task_for_each_run_with_a_copy_of_the_configuration(
    checkout: Path, slurm, command: Command
) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("kconfiglib")
    Path(".config").write_text('CONFIG_MATRIX_SEEDS="1,2,3"\nCONFIG_GPT2_STEPS=5\n')
    found = command("slurm", "-o", "seeds.sbatch", "--json").json
    assert (found["array"], found["config"]) == ("0-2", str(checkout / "seeds.config"))
    Path(".config").unlink()  # what the queue trains is what was there when it was written
    replaced = (
        Path("seeds.sbatch")
        .read_text()
        .replace('--cell "$SLURM_ARRAY_TASK_ID"', '--cell "$SLURM_ARRAY_TASK_ID" --list')
    )
    Path("list.sh").write_text(replaced)
    process = slurm("list.sh", 1)
    assert [line.split() for line in process.communicate(timeout=60)[0].splitlines()] == [
        ["0", "open", "1"],
        ["1", "open", "2"],
        ["2", "open", "3"],
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--", "true"], "say which tasks there are: --array 0-7"),
        (["--array", "all", "--", "true"], "--array 'all' is nothing that Slurm takes"),
        (["--array", "0", "--time", "soon", "--", "true"], "--time 'soon' is nothing that Slurm takes"),
        (["--array", "0", "--partition", "gpu\n#SBATCH x", "--", "true"], "is nothing that Slurm takes"),
        ([], "there is no scripts/matrix.py here"),
    ],
)
def test_what_cannot_be_written_is_refused_in_one_sentence(
    arguments: list[str], said: str, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = command("slurm", *arguments)
    assert refused.status == 1
    assert said in refused.err
    assert len(refused.err.strip().splitlines()) == 1


def test_a_script_that_is_there_is_not_replaced_unless_asked(slurm, command: Command) -> None:  # type: ignore[no-untyped-def]
    arguments = ("slurm", "--array", "0", "-o", "job.sh")
    assert command(*arguments, "--", "true").status == 0
    assert "job.sh is there already: --force replaces it" in command(*arguments, "--", "false").err
    assert command(*arguments, "--force", "--", "false").status == 0
    assert "\nfalse &\n" in Path("job.sh").read_text()


def test_a_wrong_configuration_is_refused_with_its_line(checkout: Path, command: Command) -> None:
    pytest.importorskip("kconfiglib")
    Path(".config").write_text("CONFIG_GPT2_STEPS=many\n")
    assert ".config:1: CONFIG_GPT2_STEPS is a whole number" in command("slurm").err
    Path(".config").write_text("CONFIG_PROCESSES=4\n")
    assert "has 4 processes, one for each GPU: --gpus 4" in command("slurm").err
