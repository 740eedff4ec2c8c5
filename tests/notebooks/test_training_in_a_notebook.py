"""What is recorded of a training in a notebook: its console, its cells, its end; one live run a kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from notebooks.conftest import Kernel
from waiting import wait_until

import lossbook
from lossbook.run.cell_source import mask_cell

pytestmark = pytest.mark.slow

BEGIN = "import lossbook\nrun = lossbook.init(project='p', id='r', system_metrics=False)"


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def states(store: Path) -> dict[str, str]:
    return {run.id: run.state for run in lossbook.open(store).runs()}


def test_the_console_has_what_every_cell_prints(kernel: Kernel) -> None:
    kernel.cell("print('before the run')")
    kernel.cell(f"{BEGIN}\nprint('in the first cell')")
    kernel.cell("import sys; print('in the second'); print('an error line', file=sys.stderr)")
    kernel.cell("import logging; logging.basicConfig(level=20, force=True); logging.info('a line of a logger')")
    kernel.cell("raise ValueError('this cell fails')")
    kernel.cell("import threading; t = threading.Thread(target=lambda: print('from a thread')); t.start(); t.join()")
    kernel.cell("%time print('under a magic')")
    kernel.cell("!echo from the shell")
    kernel.cell("run.finish()\nprint('after the end')")
    text = read(kernel.store / "p/r/console/r0.log")
    lines = [
        "in the first cell",
        "in the second",
        "an error line",
        "a line of a logger",
        "ValueError: this cell fails",
        "from a thread",
        "under a magic",
        "from the shell",
    ]
    assert [text.count(line) for line in lines] == [1] * len(lines)
    assert "before the run" not in text
    assert "after the end" not in text


def test_the_cells_are_kept_with_their_numbers_and_without_secrets(kernel: Kernel) -> None:
    kernel.cell("rate = 0.1  # of cell one")
    kernel.cell(BEGIN)
    kernel.cell("import os\nos.environ['HUB_PASSWORD'] = 'hunter2'\n%env HF_TOKEN=hf_short1")
    kernel.cell("for i in range(3): run.log({'loss': rate})")
    kernel.cell("raise RuntimeError")
    kernel.cell("run.finish()")
    kernel.cell("'after the end'")
    text = read(kernel.store / "p/r/code/cells.py")
    assert text.startswith("# The cells that were run, in their order: study.ipynb.\n")
    numbers = [line.split()[2] for line in text.splitlines() if line.startswith("# %%")]
    assert numbers == ["[1]", "[2]", "[3]", "[4]", "[5]", "[6]"]
    assert "rate = 0.1  # of cell one" in text
    assert "hunter2" not in text
    assert "hf_short1" not in text
    info = lossbook.open(kernel.store).run("r").info
    assert info.script is not None
    assert info.script.endswith("study.ipynb")


def test_running_the_cell_with_init_again_ends_the_run_before(kernel: Kernel) -> None:
    cell = (
        "import lossbook\nrun = lossbook.init(project='p', name='study', system_metrics=False)\nrun.log({'loss': 1.0})"
    )
    said = [kernel.cell(cell) for _ in range(3)]
    assert ["init() ends the run before it" in one for one in said] == [False, True, False]
    kernel.cell("other = lossbook.init(project='q', id='other', system_metrics=False)")
    found = states(kernel.store)
    assert found.pop("other") == "running"
    assert list(found.values()) == ["finished"] * 3
    # W&B's words for another wish still say it.
    kernel.cell("same = lossbook.init(reinit='return_previous')\nassert same is other")
    kernel.cell("beside = lossbook.init(project='q', id='beside', reinit='create_new', system_metrics=False)")
    kernel.cell("beside.log({'a': 1}); other.log({'a': 2})\nassert lossbook.run is other")
    assert {run: states(kernel.store)[run] for run in ("other", "beside")} == {"other": "running", "beside": "running"}


def test_an_interrupted_cell_leaves_the_run_usable(kernel: Kernel) -> None:
    kernel.cell(BEGIN)
    loop = "import time\nprint('looping', flush=True)\nfor i in range(10**9):\n    run.log({'loss': 1.0})\n    time.sleep(0.01)  # a step's work"
    assert "KeyboardInterrupt" in kernel.cell(loop, interrupt_at="looping")
    assert states(kernel.store) == {"r": "running"}
    kernel.cell("run.log({'later': 2.0})\nrun.finish()")
    assert states(kernel.store) == {"r": "finished"}
    assert lossbook.open(kernel.store).run("r").metrics["later"]["last"] == 2.0


def test_a_cell_that_fails_while_it_logs_is_the_runs_end(kernel: Kernel) -> None:
    kernel.cell(f"{BEGIN}\nrun.log({{'loss': 1.0}})")
    kernel.cell("run.log({'loss': 2.0})\nraise ValueError('diverged')")
    kernel.cell("1 / 0  # a slip that logs nothing is not the run's")
    kernel.cell("lossbook.init(project='p', id='next', system_metrics=False)")
    run = lossbook.open(kernel.store).run("r")
    assert run.state == "failed"
    assert "ValueError: diverged" in (run.error or "")


def test_a_kernel_that_is_shut_down_interrupts_its_run(kernel: Kernel) -> None:
    kernel.cell(f"{BEGIN}\nrun.log({{'loss': 1.0}})")
    kernel.shut_down()
    wait_until(lambda: states(kernel.store)["r"] != "running")
    run = lossbook.open(kernel.store).run("r")
    assert (run.state, run.error) == ("interrupted", "the kernel was restarted or shut down")


def test_a_kernel_that_is_shut_down_in_the_midst_of_a_cell_interrupts_its_run(kernel: Kernel) -> None:
    kernel.cell(BEGIN)
    kernel.client.execute(
        "import time\nfor step in range(10**9):\n    run.log({'loss': 1.0})\n    time.sleep(0.01)  # a step's work"
    )
    wait_until(lambda: "loss" in lossbook.open(kernel.store).run("r").metrics)
    kernel.shut_down()
    wait_until(lambda: states(kernel.store)["r"] != "running")
    assert states(kernel.store)["r"] == "interrupted"


def test_a_kernel_that_is_killed_leaves_a_crashed_run_with_its_cells(kernel: Kernel) -> None:
    kernel.cell(BEGIN)
    kernel.cell("run.log({'loss': 1.0})  # the last cell")
    kernel.kill()
    wait_until(lambda: states(kernel.store)["r"] == "crashed")
    assert "# the last cell" in read(kernel.store / "p/r/code/cells.py")


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ("os.environ['MY_PASSWORD'] = 'short'", "os.environ['MY_PASSWORD'] = \"***\""),
        ("wandb.login(key='0123abcd')", 'wandb.login(key="***")'),
        ("login('0123abcd')", 'login("***")'),
        ("client = Client(api_key='k', name='ü')\nx = 1", "client = Client(api_key=\"***\", name='ü')\nx = 1"),
        ("settings = {'ö': 1, 'secret': 's', 'lr': 'a'}", "settings = {'ö': 1, 'secret': \"***\", 'lr': 'a'}"),
        ("os.environ.setdefault('API_KEY', 'k')", "os.environ.setdefault('API_KEY', \"***\")"),
        ("%env API_KEY k", "%env API_KEY ***"),
        (
            "%%time\n!ls\nfiles = !ls\npassword = '''a\nb'''\nx = 2",
            '%%time\n!ls\nfiles = !ls\npassword = "***"\n\nx = 2',
        ),
        ("%%bash\nexport API_KEY=k1 LR=2", "%%bash\nexport API_KEY=*** LR=2"),
        ("!API_KEY=k1 python x.py\nlr = 2", "!API_KEY=*** python x.py\nlr = 2"),
        ("password = 'short'; text = 'cut off", "password = '***'; text = 'cut off"),
        ("def broken(:\n    token = 'sk-0123456789abcdef0123'", "def broken(:\n    token = '***'"),
        ("pad_token = '<pad>'; tokens = ['a']", "pad_token = '<pad>'; tokens = ['a']"),
    ],
)
def test_secrets_in_a_cell_are_masked(source: str, kept: str) -> None:
    assert mask_cell(source) == kept


def test_a_terminal_of_ipython_records_what_every_cell_prints(tmp_path: Path) -> None:
    program = """
import lossbook, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.user_ns["__vsc_ipynb_file__"] = "/home/me/vs/code.ipynb"
def cell(source): shell.run_cell(source, store_history=True)
cell("import lossbook; run = lossbook.init(project='p', id='r', system_metrics=False); print('in cell one')")
cell("print('in cell two')")
cell("import sys; print('in cell three', file=sys.stderr)")
cell("1 / 0")
cell("run.finish()")
cell("print('after the end')")
"""
    environment = {**os.environ, "LOSSBOOK_STORE": str(tmp_path / "store"), "IPYTHONDIR": str(tmp_path / "ipython")}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=120, capture_output=True)
    text = read(tmp_path / "store/p/r/console/r0.log")
    assert [text.count(words) for words in ("in cell one", "in cell two", "in cell three", "after the end")] == [
        1,
        1,
        1,
        0,
    ]
    assert "ZeroDivisionError" in text
    assert lossbook.open(tmp_path / "store").run("r").info.script == "/home/me/vs/code.ipynb"
    assert lossbook.open(tmp_path / "store").run("r").name.startswith("code_")
    assert "print('in cell two')" in read(tmp_path / "store/p/r/code/cells.py")


def test_the_output_of_a_long_cell_is_recorded_while_it_runs(kernel: Kernel) -> None:
    kernel.cell(BEGIN)
    loop = "import time\nfor step in range(10**9):\n    print('step', step)\n    time.sleep(0.01)  # a step's work"
    kernel.client.execute(loop)
    console = kernel.store / "p/r/console/r0.log"
    wait_until(lambda: console.exists() and "step 5" in read(console))
    kernel.kill()
    wait_until(lambda: states(kernel.store)["r"] == "crashed")


def test_threads_that_begin_runs_in_a_cell_do_not_end_each_others(kernel: Kernel) -> None:
    said = kernel.cell(
        "import lossbook, threading\n"
        "def train(name):\n"
        "    run = lossbook.init(project='p', id=name, system_metrics=False, console=False)\n"
        "    ready.wait()\n"
        "    run.log({'loss': 1.0}); run.finish()\n"
        "ready = threading.Barrier(3)\n"
        "threads = [threading.Thread(target=train, args=(f't{n}',)) for n in range(3)]\n"
        "for one in threads: one.start()\n"
        "for one in threads: one.join()"
    )
    assert "ends the run before it" not in said
    for name in ("t0", "t1", "t2"):
        assert lossbook.open(kernel.store).run(name).metrics["loss"]["count"] == 1


def test_a_cell_with_a_picture_pasted_into_it_is_cut(kernel: Kernel) -> None:
    kernel.cell("picture = '" + "x" * 400_000 + "'\nafter_the_picture = 1")
    kernel.cell(BEGIN)
    kernel.cell("run.finish()")
    text = read(kernel.store / "p/r/code/cells.py")
    assert len(text) < 300_000
    assert "[cut here: the cell has 400,034 characters]" in text
    assert BEGIN in text
