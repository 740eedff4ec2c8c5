"""W&B's public names against Lossbook's: each is here, or is in the table of what is not, with its reason."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import lossbook
import lossbook.wandb as door
from lossbook.compat.wandb import artifact_words
from lossbook.compat.wandb.init_order import ORDER
from lossbook.compat.wandb.module_names import TOP, current_name, is_module
from lossbook.compat.wandb.submodules import ANSWERED, find_name
from lossbook.compat.wandb.unknown_names import Unanswered, UnansweredKind
from lossbook.compat.wandb.unsupported import NOT_HERE, Absent
from lossbook.errors import BadArgument
from lossbook.run import messages

#: Modules of `wandb.sdk` that only W&B's own run imports.
BEHIND = ("helper", "metric", "sweep")
#: What the callbacks for another library need.
LIBRARIES = {
    "integration.catboost": "catboost",
    "integration.keras": "keras",
    "integration.lightgbm": "lightgbm",
    "integration.lightning.fabric": "lightning",
    "integration.sb3": "stable_baselines3",
    "integration.torch": "torch",
    "integration.xgboost": "xgboost",
}
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "wandb.md"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOSSBOOK_STORE", str(store))
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setattr(messages, "said", set())


def ask_wandb(question: str) -> Any:
    """What W&B's own package answers, in a process of its own."""
    if importlib.util.find_spec("wandb") is None:
        pytest.skip("wandb is not installed: pip install 'lossbook[test]'")
    text = f"import json, wandb\nprint(json.dumps({question}))"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def modules_of_wandb() -> list[str]:
    """The public modules in the folder of the installed package; `vendor` is other people's."""
    spec = importlib.util.find_spec("wandb")
    if spec is None or spec.origin is None:
        pytest.skip("wandb is not installed: pip install 'lossbook[test]'")
    root = Path(spec.origin).parent
    found = set()
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        names = parts[:-1] if parts[-1] == "__init__" else parts
        if names and names[0] != "vendor" and not any(name.startswith("_") for name in names):
            found.add(".".join(names))
    return sorted(found)


def beginnings(name: str) -> list[str]:
    """ "a.b.c", "a.b" and "a"."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]


def test_each_public_name_of_wandb_is_here_or_has_its_reason() -> None:
    names = ask_wandb("sorted({*wandb.__all__, *(name for name in dir(wandb) if not name.startswith('_'))})")
    assert len(names) > 80
    inside = {"helper", "sagemaker_auth", "annotations", "wandb"}  # what W&B's own `__init__` imports for itself
    missing = []
    for name in sorted(set(names) - inside):
        if name not in NOT_HERE and not hasattr(door, name) and name != "__version__":
            missing.append(name)
    assert missing == []


def test_a_package_of_lossbooks_own_is_never_taken_for_a_module_of_wandbs() -> None:
    text = "import lossbook; print([hasattr(lossbook, name) for name in ('cli', 'integrations', 'plots', 'keras')])"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=120)
    assert done.stdout == "[False, False, False, True]\n", done.stderr


def test_each_name_with_a_reason_is_one_that_does_nothing() -> None:
    for name in NOT_HERE:
        found = getattr(door, name) if "." not in name else None
        absent = isinstance(found, type) and issubclass(found, Absent)
        assert found is None or absent or found.__module__ == Absent.__module__, f"{name} is here by now"


def test_the_arguments_of_init_have_wandbs_order_where_the_script_says_import_wandb() -> None:
    assert ask_wandb("[name for name in __import__('inspect').signature(wandb.init).parameters]") == list(ORDER)
    begin: Any = find_name("sdk.wandb_init", "init")
    run = begin("team", "p", None, "an-id", "a name", config={"lr": 1}, console=False)
    assert (run.entity, run.project, run.id, run.name, run.config["lr"]) == ("team", "p", "an-id", "a name", 1)
    with pytest.raises(BadArgument, match="got 'project' twice"):
        begin("team", "p", project="p")


def test_each_public_name_of_a_run_is_here_or_has_its_reason() -> None:
    names = ask_wandb("[name for name in dir(wandb.Run) if not name.startswith('_')]")
    assert len(names) > 40
    run = door.init(project="p", console=False)
    absent = {f"run.{name}" for name in names if isinstance(getattr(run, name), Unanswered)}
    assert absent == set()
    assert {name for name in NOT_HERE if name.startswith("run.")} <= {f"run.{name}" for name in names}


def test_each_public_name_of_an_artifact_is_answered() -> None:
    names = ask_wandb("[name for name in dir(wandb.Artifact) if not name.startswith('_')]")
    assert len(names) > 60
    run = door.init(project="p", console=False)
    artifact = door.Artifact("data", "dataset")
    Path("data.txt").write_text("a")
    artifact.add_file("data.txt")
    run.log_artifact(artifact)
    assert {name for name in names if isinstance(getattr(artifact, name), Unanswered)} <= artifact_words.WORDS
    assert (artifact.entity, artifact.source_version, artifact.ttl) == ("local", "v0", None)
    assert artifact.source_qualified_name == artifact.qualified_name == "p/data:v0"
    assert not artifact.logged_by()
    assert not hasattr(artifact, "state_dict")
    assert copy.deepcopy(artifact.metadata) == {}


def test_each_public_module_of_wandb_can_be_imported_and_answers_or_has_its_reason() -> None:
    modules = modules_of_wandb()
    assert len(modules) > 300
    assert [name for name in modules if current_name(name).split(".")[0] not in {*TOP, "mpmain"}] == []
    assert [name for name in modules if name.count(".") < 2 and not is_module(name) and name != "mpmain"] == []
    told = {*ANSWERED, *(name.removeprefix("wandb.") for name in NOT_HERE)}
    # A package is told of by its modules; what is behind a run is told of by the run.
    packages = {
        "agents",
        "beta",
        "integration",
        "integration.lightning",
        "sdk",
        *(f"sdk.wandb_{one}" for one in BEHIND),
    }
    assert [name for name in modules if not told & set(beginnings(current_name(name))) and name not in packages] == []


@pytest.mark.parametrize("module", sorted(ANSWERED))
def test_the_names_of_a_module_that_the_documentation_lists_are_lossbooks(module: str) -> None:
    for name in ANSWERED[module].split():
        library = LIBRARIES.get(module, "numpy")
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed: this module's names say so")
        found = find_name(module, name)
        assert not isinstance(found, Unanswered | UnansweredKind) or issubclass(found, Absent), name
        assert "begin" not in str(getattr(found, "__init__", ""))


def test_the_documentation_shows_both_tables() -> None:
    text = DOCUMENT.read_text()
    rows = [
        f"| `wandb.{module}` | {', '.join(f'`{name}`' for name in names.split())} |"
        for module, names in ANSWERED.items()
    ]
    rows += [f"| `{name}` | {reason} |" for name, reason in NOT_HERE.items()]
    missing = [row for row in rows if row not in text]
    assert missing == [], "\n" + "\n".join(missing)
    shown = {
        line.split("`")[1]
        for line in text.split("## What is not there")[1].split("\n## ")[0].splitlines()
        if line.startswith("| `")
    }
    assert shown == set(NOT_HERE), "a row of what is there by now"


#: What public code imports from below `wandb`: statements as a survey of public repositories finds them, and what the
#: code then does with the names. None of it may raise.
SURVEY = """
import wandb.env, wandb.errors, wandb.plot, wandb.sdk, wandb.util, wandb.wandb_run, wandb.wandb_torch
import wandb.apis.public as public
import wandb.apis.reports as wr; wr.Report(project="p", title="t").save()
import wandb.docker as docker
import wandb.sdk.data_types.video as wv; wv.Video("clip.mp4")
import wandb.sdk.internal.sender
import wandb.sdk.lib.disabled
import wandb.sdk.service.service
import wandb.sdk.wandb_internal_pb2
import wandb.sdk.wandb_run; wandb.sdk.wandb_run.Run.made_up = lambda self: None
from wandb import Api, Artifact, Image, Run, env, finish, init, magic, trigger, util, wandb_config
from wandb.apis import InternalApi, PublicApi, internal, public
from wandb.apis.importers.mlflow import MlflowImporter
from wandb.apis.internal import Api
from wandb.apis.normalize import normalize_exceptions
from wandb.apis.public import ArtifactCollection, ArtifactFiles, Run, Runs
from wandb.apis.public.runs import Run
from wandb.apis.reports.v2.internal import PanelBankConfig
from wandb.beta.workflows import link_model, log_model, use_model
from wandb.catboost import WandbCallback, log_summary
from wandb.data_types import Audio, JoinedTable, Molecule, Node, Plotly, SavedModel, Table, WBValue; Molecule.from_rdkit("C")
from wandb.env import MODE, error_reporting_enabled, get_base_url, get_dir, get_project; error_reporting_enabled()
from wandb.errors import AuthenticationError, CommError, Error, InputTimeoutError, SweepError, UsageError, term
from wandb.errors.errors import UsageError
from wandb.errors.term import termerror, termlog, termwarn
from wandb.fastai import WandbCallback
from wandb.integration.catboost import WandbCallback
from wandb.integration.diffusers import autolog; autolog(init=dict(project="p"))
from wandb.integration.keras import WandbCallback, WandbMetricsLogger, WandbModelCheckpoint
from wandb.integration.keras.callbacks import WandbEvalCallback
from wandb.integration.kfp import wandb_log
from wandb.integration.langchain import WandbTracer
from wandb.integration.lightgbm import log_summary, wandb_callback
from wandb.integration.lightning.fabric import WandbLogger
from wandb.integration.metaflow import wandb_log
from wandb.integration.openai import autolog
from wandb.integration.sb3 import WandbCallback
from wandb.integration.sklearn import plot_roc
from wandb.integration.torch import wandb_torch
from wandb.integration.ultralytics import add_wandb_callback
from wandb.keras import WandbCallback, WandbMetricsLogger
from wandb.lightgbm import log_summary, wandb_callback
from wandb.old import core; from wandb.old.settings import Settings
from wandb.plot import confusion_matrix, line_series, pr_curve, roc_curve
from wandb.plot.custom_chart import CustomChart, plot_table
from wandb.plot.roc_curve import roc_curve
from wandb.plot.utils import test_missing, test_types
from wandb.plots.heatmap import heatmap
from wandb.proto import wandb_internal_pb2 as pb, wandb_telemetry_pb2 as tpb
from wandb.proto.wandb_internal_pb2 import Record
from wandb.proto.wandb_telemetry_pb2 import Deprecated, Imports
from wandb.sb3 import WandbCallback
from wandb.sdk import wandb_run, wandb_setup
from wandb.sdk.data_types import trace_tree
from wandb.sdk.data_types.base_types.wb_value import WBValue; assert issubclass(wandb.Image, WBValue)
from wandb.sdk.data_types.image import Image; assert Image is wandb.Image
from wandb.sdk.data_types.trace_tree import Trace; Trace(name="root", kind="agent").add_child(None)
from wandb.sdk.integration_utils.data_logging import ValidationDataLogger
from wandb.sdk.interface.interface import GlobStr
from wandb.sdk.internal.datastore import DataStore
from wandb.sdk.internal.internal_api import Api
from wandb.sdk.launch.agent import LaunchAgent
from wandb.sdk.launch.launch_add import launch_add
from wandb.sdk.lib import RunDisabled, filesystem, ipython, json_util, runid, telemetry
from wandb.sdk.lib.apikey import api_key; assert not api_key()
from wandb.sdk.lib.config_util import ConfigError; assert issubclass(ConfigError, Exception)
from wandb.sdk.lib.deprecate import Deprecated, deprecate; deprecate(field_name=Deprecated.run__join, warning_message="x")
from wandb.sdk.lib.disabled import RunDisabled, SummaryDisabled; assert not isinstance(run, RunDisabled)
from wandb.sdk.lib.hashutil import HexMD5
from wandb.sdk.lib.paths import FilePathStr, LogicalPath, StrPath
from wandb.sdk.lib.printer import new_printer; new_printer().display("text")
from wandb.sdk.lib.runid import generate_id; assert len(generate_id()) == 8
from wandb.sdk.wandb_config import Config; assert isinstance(run.config, Config)
from wandb.sdk.wandb_init import init as wandb_init
from wandb.sdk.wandb_run import Run; assert isinstance(run, Run)
from wandb.sdk.wandb_settings import Settings
from wandb.sklearn import plot_confusion_matrix, plot_feature_importances, plot_precision_recall; plot_confusion_matrix([1], [1])
from wandb.sweeps import BayesianSearch, GridSearch, RandomSearch, hyperband_stopping
from wandb.sweeps.config import tune
from wandb.util import coalesce, generate_id, get_module, get_optional_module; assert get_module("json")
from wandb.util import np; assert np.zeros(1).shape == (1,)
from wandb.viz import CustomChart, Visualize, custom_chart
from wandb.wandb_keras import WandbKerasCallback
from wandb.wandb_run import Run
from wandb.wandb_torch import torch; assert torch.nn
from wandb.xgboost import WandbCallback, wandb_callback
assert wandb.api.api_key and wandb.api.default_entity
assert wandb.env.PROJECT == "WANDB_PROJECT"
assert wandb.run.get_url() and wandb.run.project_name() == "p"
assert wandb.util.from_human_size("10G") == 10**10 and wandb.util.to_human_size(2 * 10**9) == "2.0GB"
assert wandb.util.json_dumps_safer({"a": np.float32(1.5)}) == '{"a": 1.5}'
import json; assert json.dumps({"a": np.arange(2)}, cls=wandb.util.WandBJSONEncoder) == '{"a": [0, 1]}'
assert wandb.util.json_friendly(np.arange(2)) == ([0, 1], True)
assert wandb.util.make_artifact_name_safe("a b/c") == "a_b_c"
assert wandb.wandb_sdk.lib.git.GitRepo().root_dir is None
len(wandb.patched["tensorboard"]) and wandb.tensorboard.unpatch()
wandb.config.update(wandb.wandb_sdk.Config({"made": 1}))
wandb.ensure_configured(); wandb.require("core"); wandb.setup(wandb.Settings(program="x")).settings
wandb.env.set_entity("team"); assert wandb.env.get_entity() == os.environ.pop("WANDB_ENTITY")
wandb.gym.monitor(); wandb.keras.set_wandb_attrs(None, None); wandb.sklearn.plot_learning_curve(None, None, None)
wandb.jupyter.notebook_metadata(); wandb.trigger.register("on_init", print)
wandb.log({"m": wandb.data_types.Molecule("x.pdb"), "t": wandb.data_types.Table(columns=["a"], data=[[1]])})
wandb.plot.line(wandb.Table(columns=["x", "y"], data=[[1, 2]]), "x", "y")
from wandb.plot.line import line; line(wandb.Table(columns=["x", "y"], data=[[1, 2]]), "x", "y")
wandb.run._label(repo="x")
wandb.sdk.lib.telemetry.context(run=wandb.run).__enter__().feature.hf_transformers = True
wandb.sdk.wandb_setup.singleton; wandb.teardown()
wandb.tensorboard.patch(root_logdir="logs", pytorch=True)
"""


def test_what_public_code_imports_from_below_wandb_imports_and_raises_nothing(store: Path) -> None:
    script = f"""
        import os
        import wandb
        run = wandb.init(project="p", console=False)
        for line in {SURVEY!r}.strip().splitlines():
            try:
                exec(line)
            except BaseException as error:
                print(f"{{line}}: {{type(error).__name__}}: {{error}}")
        run.finish()
    """
    Path("train.py").write_text(textwrap.dedent(script))
    command = [sys.executable, "-m", "lossbook.cli", "run", "--as", "wandb", "train.py"]
    environment = {**os.environ, "LOSSBOOK_FOLLOWER": "off"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("lossbook: ")]
    assert len(said) == len(set(said)), "each is said once"
    assert "lossbook: wandb.sdk.lib.printer.new_printer is not in Lossbook; it does nothing" in said
    (found,) = lossbook.open(str(store)).runs()
    assert (found.state, found.config["made"]) == ("finished", 1)


def test_what_reads_runs_is_refused_where_nothing_would_look_like_an_answer() -> None:
    for path, name in (("apis.public", "Runs"), ("sdk.internal.datastore", "DataStore"), ("beta", "LocalApi")):
        kind: Any = find_name(path, name)
        assert isinstance(kind, type)
        with pytest.raises(BadArgument, match=r"read runs with wandb\.Api\(\) or lossbook\.open\(\)"):
            kind("entity", "project", filters={"config.lr": 1})


def test_a_decorator_that_is_not_here_leaves_the_function_as_it_was() -> None:
    log: Any = find_name("integration.metaflow", "wandb_log")

    @log
    def one() -> int:
        return 1

    @log(datasets=True)
    def two() -> int:
        return 2

    assert (one(), two()) == (1, 2)


def test_a_library_that_asks_what_an_absent_value_is_gets_no_false_answer() -> None:
    trace: Any = find_name("sdk.data_types.trace_tree", "Trace")
    molecule: Any = find_name("data_types", "Molecule")
    for value in (molecule("x.pdb"), trace()):
        assert [name for name in ("numpy", "shape", "state_dict", "savefig", "to_dict") if hasattr(value, name)] == []
        assert not value.some_method(1)
