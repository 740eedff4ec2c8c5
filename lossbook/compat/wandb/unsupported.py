"""What W&B has and Lossbook has not: taken, said once in one sentence, never an error in the training.

A logged value of such a kind becomes a warning row, so it shows where something is missing. A plot of a table keeps
the table.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

from lossbook.run import Event, Media, Run, Table, say, say_once


class Absent(Media):
    """A kind of value that is taken and not kept."""

    advice = "log an Image, a Table or a Text of it"

    def __init__(self, *arguments: object, **named: object) -> None:
        say_once(self._sentence())

    def _sentence(self) -> str:
        return f"{type(self).__name__} is not supported and is not kept: {self.advice}"

    def event(self, key: str) -> Event:
        return Event("warning", key, {"message": self._sentence()})


class Html(Absent):
    """A page of HTML: taken, and not kept."""

    advice = "log a Text of it, or save() the file"


class Audio(Absent):
    """A sound: taken, and not kept."""

    advice = "save() the file"


class Video(Absent):
    """A moving picture: taken, and not kept."""

    advice = "save() the file, or log an Image of each frame"


class Plot:
    """`wandb.plot`: its charts are not drawn; the table of one is logged in its place."""

    def __getattr__(self, name: str) -> Callable[..., Media]:
        if name.startswith("_"):
            raise AttributeError(name)
        return _drawing(name)


def _drawing(name: str) -> Callable[..., Media]:
    def draw(*arguments: object, **named: object) -> Media:
        for one in (*arguments, *named.values()):
            if isinstance(one, Table):
                say_once(f"plot.{name}() is not supported: the table itself is logged in its place")
                return one
        absent: Media = type(f"plot.{name}", (Absent,), {"advice": "log a Table of its numbers"})()
        return absent

    return draw


class _Library:
    """Integrations of W&B's with other libraries: every function of one says that it is not there."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)

        def absent(*arguments: object, **named: object) -> None:
            say_once(f"{self._name}.{name} is not supported: log the metrics with lossbook.log()")

        return absent


def _without_effect(name: str, advice: str, answer: object = None) -> Callable[..., object]:
    def call(*arguments: object, **named: object) -> object:
        say_once(f"{name}() is not supported: {advice}")
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
    if name in (
        "Object3D",
        "Molecule",
        "Plotly",
        "Graph",
        "JoinedTable",
        "EvalTable",
        "Classes",
        "Bokeh",
        "box3d",
        "ArtifactTTL",
    ):
        return type(name, (Absent,), {"__doc__": "Taken, and not kept."})
    if name in (
        "keras",
        "sklearn",
        "xgboost",
        "lightgbm",
        "catboost",
        "gym",
        "tensorboard",
        "tensorflow",
        "sacred",
        "jupyter",
    ):
        return _Library(name)
    if name in ("sweep", "agent", "controller"):
        advice = "start the runs of a sweep yourself; runs of one `group` are compared together"
        return _without_effect(name, advice, "" if name == "sweep" else None)
    if name in ("setup", "teardown", "require", "ensure_configured"):
        return _nothing
    if name in ("termlog", "termwarn", "termerror"):
        return _print
    if name in ("plot_table", "visualize"):
        return _drawing(name)
    if name in ("sdk", "wandb_sdk"):
        from lossbook.paths import new_run_id

        return SimpleNamespace(
            wandb_run=SimpleNamespace(Run=Run), lib=SimpleNamespace(runid=SimpleNamespace(generate_id=new_run_id))
        )
    if name == "wandb_run":
        return SimpleNamespace(Run=Run)
    raise AttributeError(f"module 'lossbook' has no attribute {name!r}")
