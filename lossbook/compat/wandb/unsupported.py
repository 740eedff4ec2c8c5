"""What W&B has and Lossbook has not: taken, said once in one sentence, never an error in the training.

A logged value of such a kind becomes a warning row, so it shows where something is missing. A plot of a table keeps
the table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from lossbook.compat.wandb.module_names import current_name
from lossbook.compat.wandb.unknown_names import PROBES, Unanswered, UnansweredKind, UnansweredName
from lossbook.run import Event, Media, Table, describe, say, say_once

#: Names of `wandb`, of `wandb.Run` ("run.…") and of modules below `wandb` ("wandb.…", all that is in them) that have no
#: counterpart here, each with the reason that the first use of it says. docs/wandb.md shows the table.
NOT_HERE = {
    "ArtifactTTL": "a version stays until somebody deletes it",
    "Audio": "no sounds are kept: save() the file",
    "Bokeh": "no Bokeh documents are kept: save() the file",
    "Classes": "boxes and masks of an Image are not kept",
    "EvalTable": "log a Table",
    "Graph": "no graph of a model is drawn: log a Text of it",
    "Html": "no pages are kept: log a Text of it, or save() the file",
    "JoinedTable": "log a Table, joined before",
    "Molecule": "no molecules are kept: save() the file",
    "Object3D": "no 3D objects are kept: save() the file",
    "Plotly": "no Plotly figures are kept: log an Image or a Table of it",
    "Video": "no videos are kept: save() the file, or log an Image of each frame",
    "agent": "start the runs of a sweep yourself; runs of one `group` are compared together",
    "attach": "a run belongs to one process; every rank calls init() itself",
    "box3d": "no 3D objects are kept: save() the file",
    "controller": "start the runs of a sweep yourself; runs of one `group` are compared together",
    "pin_config_keys": "it arranges a page of W&B's",
    "plot_table": "the table itself is logged in its place",
    "profiler": "log what a profiler measured, or save() its file",
    "sweep": "start the runs of a sweep yourself; runs of one `group` are compared together",
    "run.display": "`lossbook show` shows a run",
    "run.link_artifact": "there is no model registry here; give the artifact an alias",
    "run.log_code": "the script and the git diff are kept with every run; save() takes other files",
    "run.pin_config_keys": "it arranges a page of W&B's",
    "run.restore": "files that save() kept lie in the run's folder, under media/",
    "wandb.agents": "sweeps of W&B's own server are not answered",
    "wandb.analytics": "nothing is reported to anybody",
    "wandb.apis.importers": "`lossbook import` reads other trackers",
    "wandb.apis.reports": "`lossbook report` writes a page of a store",
    "wandb.apis.workspaces": "`lossbook serve` shows a store",
    "wandb.automations": "alerts are commands, files or webhooks of your own",
    "wandb.cli": "the command is `lossbook`",
    "wandb.docker": "no containers are started",
    "wandb.filesync": "files are copied into the run, and nothing is uploaded from the training",
    "wandb.integration.cohere": "log what you want to keep of a reply",
    "wandb.integration.diffusers": "log the images that a pipeline makes",
    "wandb.integration.dspy": "log the scores of a program",
    "wandb.integration.fastai": "fastai's own `fastai.callback.wandb` works",
    "wandb.integration.gym": "no videos are recorded",
    "wandb.integration.huggingface": "log what you want to keep of a pipeline's answer",
    "wandb.integration.kfp": "a component is left as it is: call init() in it",
    "wandb.integration.langchain": "log what you want to keep of a chain",
    "wandb.integration.metaflow": "a step is left as it is: call init() in it",
    "wandb.integration.openai": "log what you want to keep of a reply",
    "wandb.integration.prodigy": "log a Table of the annotations",
    "wandb.integration.sacred": "call log() in the experiment",
    "wandb.integration.sagemaker": "name the store with LOSSBOOK_STORE",
    "wandb.integration.tensorboard": "log() beside the writer",
    "wandb.integration.tensorflow": "call log() in the loop",
    "wandb.integration.ultralytics": "Ultralytics' own `yolo settings wandb=True` works",
    "wandb.integration.weave": "no traces are kept",
    "wandb.integration.yolov8": "Ultralytics' own `yolo settings wandb=True` works",
    "wandb.jupyter": "a run has a card in a notebook, without a magic",
    "wandb.magic": "call log() in the loop",
    "wandb.mpmain": "it starts W&B's own process",
    "wandb.plots": "log a Table of the numbers",
    "wandb.proto": "they are W&B's own messages; `lossbook.open('run-….wandb')` reads such a file",
    "wandb.sandbox": "no containers are started",
    "wandb.sdk.backend": "there is no service to talk to",
    "wandb.sdk.integration_utils": "log the metrics with log()",
    "wandb.sdk.interface": "there is no service to talk to",
    "wandb.sdk.internal": "they are W&B's own files; `lossbook.open('run-….wandb')` reads such a file",
    "wandb.sdk.launch": "jobs are started by your own scheduler; `lossbook slurm` writes its script",
    "wandb.sdk.mailbox": "there is no service to talk to",
    "wandb.sdk.service": "there is no service to talk to",
    "wandb.sdk.sweeps": "sweeps of W&B's own server are not answered",
    "wandb.sdk.verify": "`lossbook doctor` looks at this machine",
    "wandb.sweeps": "sweeps of W&B's own server are not answered",
    "wandb.trigger": "nothing is called when something happens",
    "wandb.vendor": "they are copies of other people's packages",
    "wandb.wandb_agent": "start the runs of a sweep yourself",
    "wandb.wandb_controller": "start the runs of a sweep yourself",
    "visualize": "the table itself is logged in its place",
}


#: Where names are that read runs.
_READERS = ("wandb.apis.public.", "wandb.beta.Local", "wandb.sdk.internal.datastore.")


class Absent(Media, metaclass=UnansweredKind):
    """A kind of value that is taken and not kept."""

    reason = ""

    def __init__(self, *arguments: object, **named: object) -> None:
        say_once(self._sentence())

    def __getattr__(self, name: str) -> Unanswered:
        if name.startswith("_") or name in PROBES:
            raise AttributeError(name)
        return Unanswered(f"{type(self).__name__}.{name}")

    def _sentence(self) -> str:
        return f"{type(self).__name__} is not supported and is not kept: {self.reason}"

    def event(self, key: str) -> Event:
        return Event("warning", key, {"message": self._sentence()})


class Html(Absent):
    """A page of HTML: taken, and not kept."""

    reason = NOT_HERE["Html"]


class Audio(Absent):
    """A sound: taken, and not kept."""

    reason = NOT_HERE["Audio"]


class Video(Absent):
    """A moving picture: taken, and not kept."""

    reason = NOT_HERE["Video"]


#: Charts that W&B makes of other things than a table.
_COMPUTED = ("confusion_matrix", "line_series", "pr_curve", "roc_curve")


def drawing(name: str) -> Callable[..., Media]:
    """A function of `wandb.plot`: its chart is not drawn; the table of it is logged in its place."""

    def draw(*arguments: Any, **named: Any) -> Media:
        for one in (*arguments, *named.values()):
            if isinstance(one, Table):
                say_once(f"plot.{name}() draws nothing: the table itself is logged in its place")
                return one
        reason = "log a Table of its numbers"
        if name in _COMPUTED:
            from lossbook.compat.wandb import charts

            try:
                table: Table = getattr(charts, name)(*arguments, **named)
            except Exception as error:
                reason = f"no table could be made of what was passed ({describe(error)})"
            else:
                say_once(f"plot.{name}() draws nothing: the table of its numbers is logged in its place")
                return table
        absent: Media = type(f"plot.{name}", (Absent,), {"reason": reason})()
        return absent

    return draw


def absent(owner: str, name: str) -> object:
    """Stands in for a name of a module that Lossbook has not: an exception, a class or a function, as it is written.

    Args:
        owner: the module's name, "wandb.sdk.lib".
    """
    from lossbook.errors import Error

    if name.endswith(("Error", "Exception", "Warning")):
        return type(name, (Error,), {"__module__": owner})
    whole = f"{owner}.{name}"
    if whole.startswith(_READERS):
        return _refusing(owner, name)
    sentence = f"{whole} is not in Lossbook; it does nothing{_reason(whole)}"
    if not name[:1].isupper() or name.isupper():
        return UnansweredName(whole, sentence)

    def begin(self: object, *arguments: object, **named: object) -> None:
        say_once(sentence)

    def ask(self: object, asked: str) -> Unanswered:
        if asked.startswith("_") or asked in PROBES:
            raise AttributeError(asked)
        return Unanswered(f"{whole}.{asked}")

    return UnansweredKind(name, (), {"__module__": owner, "__init__": begin, "__getattr__": ask})


def _refusing(owner: str, name: str) -> object:
    """Of what reads runs: nothing in its place would look like an answer, so the use of it is an error."""
    from lossbook.errors import BadArgument

    sentence = f"{owner}.{name} is not in Lossbook: read runs with wandb.Api() or lossbook.open()"

    def refuse(*arguments: object, **named: object) -> None:
        raise BadArgument(sentence)

    return type(name, (), {"__module__": owner, "__init__": refuse}) if name[:1].isupper() else refuse


def _reason(whole: str) -> str:
    parts = ["wandb", *current_name(whole.removeprefix("wandb.")).split(".")]
    for end in range(len(parts), 1, -1):
        if (reason := NOT_HERE.get(".".join(parts[:end]))) is not None:
            return f": {reason}"
    return ""


def _without_effect(name: str, answer: object = None) -> Callable[..., object]:
    def call(*arguments: object, **named: object) -> object:
        say_once(f"{name}() is not supported: {NOT_HERE[name]}")
        return answer

    return call


def _print(text: object = "", *arguments: object, **named: object) -> None:
    say(str(text))


def _nothing(*arguments: object, **named: object) -> None:
    """A step that W&B needs and this has no need of."""


def find_absent(name: str) -> object:
    """What stands in for a name of W&B's that has no counterpart.

    Raises:
        AttributeError: it is no name of W&B's.
    """
    if name in ("sweep", "agent", "controller", "attach", "pin_config_keys", "profiler"):
        return _without_effect(name, "" if name == "sweep" else None)
    if name in ("plot_table", "visualize"):
        return drawing(name)
    if name in NOT_HERE:
        return UnansweredKind(name, (Absent,), {"__doc__": "Taken, and not kept.", "reason": NOT_HERE[name]})
    if name in ("teardown", "require", "ensure_configured", "termsetup"):
        return _nothing
    if name in ("termlog", "termwarn", "termerror"):
        return _print
    if name == "setup":
        return _set_up
    if name == "patched":
        return defaultdict[str, list[object]](list)  # what was patched, by package: nothing
    raise AttributeError(f"module 'lossbook' has no attribute {name!r}")


def _set_up(*arguments: object, **named: object) -> SimpleNamespace:
    from lossbook.compat.wandb.module_api import Settings

    return SimpleNamespace(settings=Settings())
