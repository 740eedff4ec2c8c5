"""Every program, script and command of docs/guides does what the guide says.

Slurm, Docker and Kubernetes are stood in for by small programs that start what these would start, with the variables that
these would set; a path such as /shared/runs is a folder of the test.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from waiting import wait_until

import lossbook
from lossbook.reading import RecordedRun

ROOT = Path(__file__).resolve().parents[2]
GUIDES = ROOT / "docs" / "guides"

#: Starts one task a node, as srun does.
SRUN = """#!/bin/sh
for task in 0 1; do
    SLURM_PROCID=$task SLURM_NTASKS=2 SLURM_LOCALID=0 SLURM_NODEID=$task SLURM_STEP_ID=0 "$@" &
    tasks="$tasks $!"
done
for task in $tasks; do wait $task || exit 1; done
"""
SCONTROL = "#!/bin/sh\nprintf '127.0.0.1\\n127.0.0.2\\n'\n"
#: Runs the command of a container on this machine: its variables, and its volumes in place of its paths.
DOCKER = """#!{python}
import os, sys
words = sys.argv[1:]
assert words.pop(0) == "run"
environment, volumes = dict(PATH=os.environ["PATH"], PYTHONPATH=os.environ["PYTHONPATH"], HOME="/"), []
flags = {{"--rm", "--init", "--read-only"}}
while words[0].startswith("--"):
    option = words.pop(0)
    if option in flags:
        continue
    value = words.pop(0)
    if option == "--env":
        name, _, value = value.partition("=")
        environment[name] = value
    elif option == "--volume":
        volumes.append(value.split(":"))
    else:
        assert option in ("--tmpfs", "--user"), option
image, *command = words
for outside, inside in volumes:
    environment = {{name: outside if value == inside else value for name, value in environment.items()}}
os.execvpe(command[0], command, environment)
"""


def blocks(guide: str, kind: str) -> list[str]:
    """The code of one language in a guide, in its order."""
    return re.findall(rf"```{kind}\n(.*?)```", (GUIDES / guide).read_text(encoding="utf-8"), re.DOTALL)


class Place:
    """A folder with a guide's program in it, where its commands are run."""

    def __init__(self, folder: Path, guide: str) -> None:
        self._folder = folder
        self._programs = folder / "bin"
        self._programs.mkdir()
        for path in ("shared/runs", "elsewhere/runs", "tmp"):
            (folder / path).mkdir(parents=True)
        self.store = folder / "shared" / "runs"
        (folder / "train.py").write_text(blocks(guide, "python")[0])
        self.put("python", f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        self.put("lossbook", f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m lossbook.cli "$@"\n')

    def put(self, name: str, program: str) -> None:
        """Stand in for a program of the machine."""
        path = self._programs / name
        path.write_text(program)
        path.chmod(0o755)

    def here(self, text: str) -> str:
        """A guide's text with folders of this place for those that it names."""
        return re.sub(r"(?<![\w/])/(?=(shared|elsewhere)/)", f"{self._folder}/", text)

    def run(self, script: str, *words: str, **environment: str) -> str:
        """Run a shell script, or a command behind it; returns what was printed."""
        done = subprocess.run(
            ["bash", "-euc", self.here(script), *words],
            cwd=self._folder,
            env={
                **os.environ,
                "PATH": f"{self._programs}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                "USER": "me",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    def only_run(self) -> RecordedRun:
        """The run, once it is over."""
        wait_until(lambda: [run.state for run in lossbook.open(self.store).runs()] == ["finished"], 60)
        (run,) = lossbook.open(self.store).runs()
        assert run.project == "gpt2"
        return run


def test_a_slurm_job_is_one_run_and_a_requeue_goes_on_with_it(tmp_path: Path) -> None:
    place = Place(tmp_path, "slurm.md")
    place.put("srun", SRUN)
    place.put("scontrol", SCONTROL)
    (script,) = blocks("slurm.md", "bash")
    job = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "baseline", "SLURM_JOB_NODELIST": "node[1-2]"}
    place.run(script, **job)
    assert place.only_run().name == "baseline"
    assert place.only_run().info.attempts[0].world_size == 2
    (commands,) = blocks("slurm.md", "sh")
    assert "baseline" in place.run(commands)
    assert "#SBATCH --array=0-7" in place.run("lossbook slurm --array 0-7 -- python train.py --seed {task}")


def test_a_slurm_job_that_is_requeued_goes_on_with_its_run(tmp_path: Path) -> None:
    place = Place(tmp_path, "slurm.md")
    place.put("srun", SRUN)
    place.put("scontrol", SCONTROL)
    (script,) = blocks("slurm.md", "bash")
    job = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "baseline", "SLURM_JOB_NODELIST": "node[1-2]"}
    program = tmp_path / "train.py"
    whole = program.read_text()
    program.write_text(f"{whole}        if step == 50:\n            raise SystemExit(9)\n")
    with pytest.raises(AssertionError):
        place.run(script, **job)
    program.write_text(whole)
    place.run(script, **job, SLURM_RESTART_COUNT="1")
    assert [attempt.number for attempt in place.only_run().info.attempts] == [0, 1]


def test_a_container_writes_into_its_volume(tmp_path: Path) -> None:
    place = Place(tmp_path, "docker.md")
    place.put("docker", DOCKER.format(python=sys.executable))
    start, look = blocks("docker.md", "sh")
    place.run(start)
    assert len(place.only_run().history(["train/loss"]).rows()) == 100
    assert place.only_run().id in place.run(look)


def test_a_pod_writes_into_its_volume_and_another_goes_on(tmp_path: Path) -> None:
    place = Place(tmp_path, "kubernetes.md")
    (text,) = blocks("kubernetes.md", "yaml")
    pod = yaml.safe_load(text)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    paths = {"/runs": str(place.store), "/tmp": str(tmp_path / "tmp")}

    def inside(value: str) -> str:
        return re.sub(r"^/(runs|tmp)", lambda found: paths[found[0]], value)

    environment = {one["name"]: inside(one["value"]) for one in container["env"]}
    place.run('"$@"', "pod", *container["command"], **environment)
    assert place.only_run().id == "baseline-1"
    resumed = re.search(r"lossbook\.init\((resume=.*?)\)", (GUIDES / "kubernetes.md").read_text(encoding="utf-8"))
    assert resumed is not None
    program = tmp_path / "train.py"
    program.write_text(f"step_of_the_checkpoint = 49\n{program.read_text()}".replace("init(", f"init({resumed[1]}, "))
    place.run('"$@"', "pod", *container["command"], **environment)
    assert [attempt.resume_step for attempt in place.only_run().info.attempts] == [None, 49]


@pytest.mark.usefixtures("follower")
def test_the_ways_out_of_a_machine_without_internet(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    place = Place(tmp_path, "offline-cluster.md")
    shared, copy, mirror, page = blocks("offline-cluster.md", "sh")
    place.run(shared)
    name = place.only_run().name
    assert name in place.run(copy)
    place.run(page)
    assert name in (tmp_path / "run.html").read_text(encoding="utf-8")
    place.run(mirror)
    assert list(tmp_path.rglob("events.out.tfevents.*"))


def test_the_notebook_guide_runs(tmp_path: Path) -> None:
    place = Place(tmp_path, "notebooks.md")
    place.run("python train.py", LOSSBOOK_STORE="/shared/runs".replace("/shared", str(tmp_path / "shared")))
    assert len(place.only_run().history(["train/loss"]).rows()) == 100


def test_every_guide_and_every_variable_in_it_is_known() -> None:
    known = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for guide in sorted(GUIDES.glob("*.md")):
        text = guide.read_text(encoding="utf-8")
        assert f"docs/guides/{guide.name}" in readme
        assert [name for name in set(re.findall(r"LOSSBOOK_[A-Z_]+", text)) if name not in known] == []
        for link in re.findall(r"\]\(([^)#]+)", text):
            assert (guide.parent / link).is_file(), link
