"""A tracker for Hugging Face Accelerate.

    accelerator = Accelerator(log_with=LossbookTracker("my-project"))
    accelerator.init_trackers("my-project", config={"lr": 3e-4})

or, with an Accelerate that lets trackers be registered, `Accelerator(log_with="lossbook")`: with no line of Lossbook's where
it is installed beside PyTorch 2.5 or newer (`by_name`), else after `register()`. `init_kwargs={"lossbook": {...}}` takes the
arguments of `lossbook.init`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lossbook
from lossbook.errors import MissingLibrary
from lossbook.integrations.guard import harmless, is_over
from lossbook.run import Run

try:
    from accelerate import tracking
    from accelerate.tracking import GeneralTracker, on_main_process
except ImportError as error:
    raise MissingLibrary("LossbookTracker needs Accelerate: pip install accelerate") from error


class LossbookTracker(GeneralTracker):  # type: ignore[misc]
    """Records what `accelerator.log` is given. Only the main process records.

    Args:
        project: the run's project; None for the default one.
        run: the run to write to; it is not ended by `end_training`.
        arguments: those of `lossbook.init`. With `id=…, resume="allow"` a second program goes on with the same run,
            and with `resume_step=…` from a checkpoint of it.
    """

    name = "lossbook"
    requires_logging_directory = False
    main_process_only = True

    def __init__(self, project: str | None = None, *, run: Run | None = None, **arguments: Any) -> None:
        super().__init__()
        self.run = run
        self._is_ours = run is None
        self._arguments = {"project": project, **arguments}

    @property
    def tracker(self) -> Run | None:
        """The run; None before `init_trackers` and in processes other than the main one."""
        return self.run

    @on_main_process  # type: ignore[untyped-decorator]
    @harmless
    def start(self) -> None:
        if self.run is None:
            self.run = lossbook.init(**self._arguments)

    @on_main_process  # type: ignore[untyped-decorator]
    @harmless
    def store_init_configuration(self, values: Mapping[str, object]) -> None:
        if self.run is not None:
            self.run.config.update(values)

    @on_main_process  # type: ignore[untyped-decorator]
    @harmless
    def log(self, values: Mapping[str, object], step: int | None = None, **rest: object) -> None:
        """Record numbers; texts become `lossbook.Text`. `rest` is what other trackers would be given."""
        if self.run is not None:
            self.run.log({key: _loggable(value) for key, value in values.items()}, step=step)

    @on_main_process  # type: ignore[untyped-decorator]
    @harmless
    def log_images(self, values: Mapping[str, Sequence[object]], step: int | None = None, **rest: object) -> None:
        """Record lists of pictures: arrays (height, width[, channels]), PIL images or files, each under its number."""
        pictures: dict[str, object] = {}
        for key, images in values.items():
            for number, image in enumerate(images):
                place = key if len(images) == 1 else f"{key}/{number}"
                pictures[place] = image if isinstance(image, lossbook.Image) else lossbook.Image(image)
        if self.run is not None:
            self.run.log(pictures, step=step)

    @on_main_process  # type: ignore[untyped-decorator]
    @harmless
    def log_table(
        self,
        table_name: str,
        columns: Sequence[str] | None = None,
        data: object = (),
        dataframe: object = None,
        step: int | None = None,
        **rest: object,
    ) -> None:
        if self.run is not None:
            self.run.log({table_name: lossbook.Table(columns, data or (), dataframe=dataframe)}, step=step)

    @on_main_process  # type: ignore[untyped-decorator]
    @harmless
    def finish(self) -> None:
        if self.run is not None and self._is_ours and not is_over(self.run):
            self.run.finish()


def register() -> None:
    """Make `Accelerator(log_with="lossbook")` known to Accelerate, for this process.

    Raises:
        MissingLibrary: the installed Accelerate has no way to register a tracker.
    """
    if not hasattr(tracking, "register_tracker_class"):
        raise MissingLibrary(
            'this Accelerate knows only its own trackers by name: pass log_with=LossbookTracker("my-project") instead'
        )
    tracking.LOGGER_TYPE_TO_CLASS.pop(LossbookTracker.name, None)  # Accelerate warns of a name that is taken
    tracking.register_tracker_class(LossbookTracker)


def _loggable(value: object) -> object:
    if isinstance(value, str):
        return lossbook.Text(value)
    if isinstance(value, Mapping):
        return {key: _loggable(inner) for key, inner in value.items()}
    return value
