"""Brings `lossbook run --as …` into every Python process below it: Python imports this file when it starts.

`lossbook run` puts this folder at the head of PYTHONPATH and the names into LOSSBOOK_AS, so workers that multiprocessing
spawns, ranks of torchrun and scripts started by scripts have Lossbook in the other package's place too. Nothing is
installed into the environment. Another `sitecustomize` on the path is run as if this one were not there.
"""

import os
import sys

TYPE_CHECKING = False  # `typing` takes longer to load than all of this
if TYPE_CHECKING:
    from typing import Any


def _runs_lossbook(words: "list[str]") -> bool:
    # Lossbook's own commands and followers need the real package: a mirror to W&B is W&B's own client.
    rest = iter(words[1:])
    for word in rest:
        if word == "-m":
            return next(rest, "").split(".")[0] == "lossbook"
        if word in ("-W", "-X"):
            next(rest, "")
        elif not word.startswith("-"):
            package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
            return os.path.basename(word) == "lossbook" or os.path.abspath(word) == os.path.join(package, "start.py")
    return False


class _Door:
    """Loads Lossbook when the program first asks for a package that it stands in for: most processes never do."""

    def __init__(self, words: "list[str]") -> None:
        self._words = words

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        if name.partition(".")[0] not in ("wandb", "trackio", "tensorboardX") and name != "torch.utils.tensorboard":
            return None
        finder = self._finder()
        return None if finder is None else finder.find_spec(name, path)

    def find_distributions(self, context: "Any" = None) -> "Any":
        if getattr(context, "name", None) not in ("wandb", "trackio", "tensorboardX"):
            return ()
        finder = self._finder()
        return () if finder is None else finder.find_distributions(context)

    def _finder(self) -> "Any":
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        try:
            from lossbook.compat.stand_in import FINDER, install_as
        except ImportError:
            # Another Python: its programs run as they are.
            sys.stderr.write(f"lossbook: {sys.executable} has no Lossbook, so this program's tracker is its own\n")
            return None
        try:
            install_as(*self._words)
        except Exception as error:
            sys.stderr.write(f"lossbook: LOSSBOOK_AS={','.join(self._words)}: {error}\n")
        return FINDER


def _install() -> None:
    names = os.environ.get("LOSSBOOK_AS", "")
    if not names:
        return
    if _runs_lossbook(sys.orig_argv):
        del os.environ["LOSSBOOK_AS"]  # nor is it for what a mirror's client starts
        return
    sys.meta_path.insert(0, _Door(names.split(",")))


def _run_the_next() -> None:
    """The `sitecustomize` that this one hides."""
    from importlib.machinery import PathFinder

    here = os.path.realpath(os.path.dirname(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or ".") != here]
    spec = PathFinder.find_spec("sitecustomize")
    if spec is None or spec.loader is None:
        return
    from importlib.util import module_from_spec

    module = sys.modules["sitecustomize"] = module_from_spec(spec)
    spec.loader.exec_module(module)


_run_the_next()
_install()
