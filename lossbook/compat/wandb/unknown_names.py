"""Answers a name of W&B's that is not here: it is said once, in one sentence, and training goes on.

Tables of the names that W&B's own classes have (wandb 0.31) tell a word of W&B's from a mistake.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from types import FunctionType
from typing import Any

from lossbook.run import say_once

#: Public names of `wandb.Run`, those of earlier versions included.
RUN = frozenset(
    ("alert", "config", "config_static", "define_metric", "dir", "disabled", "display", "entity", "finish",
     "finish_artifact", "get_project_url", "get_sweep_url", "get_url", "group", "id", "job_type", "join",
     "link_artifact", "link_model", "log", "log_artifact", "log_code", "log_model", "mark_preempting", "mode", "name",
     "notes", "offline", "path", "pin_config_keys", "project", "project_name", "project_url", "restore", "resumed",
     "save", "settings", "start_time", "starting_step", "status", "step", "summary", "sweep_id", "sweep_url",
     "sync_dir", "tags", "to_html", "unwatch", "upsert_artifact", "url", "use_artifact", "use_model", "watch",
     "write_logs")
)  # fmt: skip
#: Private names of `wandb.Run` that libraries call all the same; what Python or a notebook probes for is not among them.
RUN_PRIVATE = frozenset(
    ("_add_singleton", "_assert_can_log_artifact", "_atexit_cleanup", "_begin_capturing_loggers",
     "_config_artifact_callback", "_config_callback", "_console_callback", "_console_raw_callback", "_console_start",
     "_console_stop", "_construct_job_artifact", "_create_image_job", "_define_metric",
     "_detect_and_apply_job_inputs", "_expand_glob", "_find_literal", "_finish", "_footer", "_footer_history",
     "_footer_history_summary_info", "_footer_log_dir_info", "_footer_summary", "_footer_sync_info", "_freeze",
     "_get_path", "_handle_launch_artifact_overrides", "_header", "_header_run_info", "_header_sync_info",
     "_header_wandb_version_info", "_init", "_initialize_launch_artifact_maps", "_label", "_label_internal",
     "_label_probe_lines", "_label_probe_main", "_label_probe_notebook", "_log", "_log_artifact",
     "_log_job_artifact_with_image", "_make_job_source_reqs", "_materialize_saved_files", "_metric_callback",
     "_on_attach", "_on_finish", "_on_ready", "_on_start", "_partial_history_callback", "_pop_all_charts",
     "_populate_git_info", "_prepare_artifact", "_public_api", "_publish_file", "_redirect",
     "_register_telemetry_import_hooks", "_restore", "_save", "_serialize_custom_charts", "_set_backend",
     "_set_config_wandb", "_set_internal_run_interface", "_set_library", "_set_run_obj", "_set_teardown_hooks",
     "_summary_get_current_summary_callback", "_summary_update_callback", "_system_metrics", "_telemetry_callback",
     "_telemetry_flush", "_tensorboard_callback", "_unregister_telemetry_import_hooks")
)  # fmt: skip
#: Names of `wandb.Table`.
TABLE = frozenset(
    ("MAX_ARTIFACT_ROWS", "MAX_ROWS", "add_column", "add_computed_columns", "add_data", "add_row", "bind_to_run",
     "captions", "cast", "file_is_set", "from_json", "get_column", "get_dataframe", "get_index", "get_media_subdir",
     "has_been_logged", "index_ref", "init_from_json", "is_bound", "iterrows", "path_is_reference", "set_fk", "set_pk",
     "to_data_array", "to_json", "type_mapping", "with_suffix")
)  # fmt: skip
#: Names of W&B's configuration that mean something to W&B alone, and of its summary.
CONFIG = frozenset(("_set_artifact_callback", "_set_callback", "_set_settings", "_update", "merge_locked", "persist",
                    "update_locked", "_check_locked", "_get_user_id", "_load_defaults",
                    "_raise_value_error_on_nested_artifact", "_sanitize", "_sanitize_dict"))  # fmt: skip
SUMMARY = frozenset(("_set_update_callback", "_update"))

#: What libraries ask an object for to find out what it is: an array, a tensor, a module, a model, a file, a figure.
#: To say yes would have it converted, moved to a device or saved with a checkpoint.
PROBES = frozenset(
    ("array", "asdict", "columns", "cpu", "cuda", "detach", "device", "dict", "dtype", "eval", "figure", "fileno",
     "flag_values_dict", "forward", "is_cuda", "is_ready", "item", "items", "json", "keys", "load_state_dict",
     "model_dump", "named_parameters", "ndim", "numel", "numpy", "parameters", "read", "savefig", "shape", "size",
     "state_dict", "to", "to_dict", "to_json_string", "tolist", "train", "value", "values", "write")
)  # fmt: skip


class Unanswered:
    """Stands in for what is not here: called, entered or not, it does nothing, is empty and is false."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *arguments: object, **named: object) -> Any:
        return decorated(arguments, named)

    def __getattr__(self, name: str) -> Unanswered:
        if name.startswith("_") or name in PROBES:
            raise AttributeError(name)
        return Unanswered(f"{self._name}.{name}")

    def __enter__(self) -> Unanswered:
        return self

    def __exit__(self, *error: object) -> None:
        """Whatever was raised goes on."""

    def __bool__(self) -> bool:
        return False

    def __iter__(self) -> Iterator[object]:
        return iter(())

    def __str__(self) -> str:
        return ""

    def __repr__(self) -> str:
        return f"<{self._name}: not here>"


class UnansweredName(Unanswered):
    """A function or an object of a module that is not here: the first use of it says the sentence."""

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(name)
        self._sentence = sentence

    def __call__(self, *arguments: object, **named: object) -> Any:
        say_once(self._sentence)
        found = decorated(arguments, named)
        return Unanswered(f"{self._name}()") if found is None else found

    def __getattr__(self, name: str) -> Unanswered:
        found = super().__getattr__(name)
        say_once(self._sentence)
        return found


class UnansweredKind(type):
    """The class of classes that are not here: `Kind.from_file(…)` is a `Kind`, `Kind.SOME_WORD` is nothing."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_") or name in PROBES:
            raise AttributeError(f"{cls.__name__} has no attribute {name!r}")
        if name.isupper():
            return Unanswered(f"{cls.__name__}.{name}")
        return lambda *arguments, **named: cls()


def decorated(arguments: tuple[object, ...], named: dict[str, object]) -> Any:
    """What was passed, if that is one function or class and nothing else: it may be a decorator that was called."""
    if len(arguments) == 1 and not named and isinstance(arguments[0], FunctionType | type):
        return arguments[0]
    return None


def answer(
    owner: str, name: str, *, known: Iterable[str], words: frozenset[str], private: frozenset[str] = frozenset()
) -> Unanswered:
    """Say once that there is no such name, and return what stands in for it.

    Args:
        owner: as a script calls the object: "run", "config".
        known: the names that there are, for a guess at what was meant.
        words: W&B's names of such an object; `private` those that begin with an underscore.

    Raises:
        AttributeError: it is a private name that W&B has not either, or one that libraries probe objects for.
    """
    if name in PROBES or (name.startswith("_") and name not in private):
        raise AttributeError(f"{owner} has no attribute {name!r}")
    if name in words or name in private:
        say_once(f"{owner}.{name} of W&B's has no counterpart here; it does nothing")
    else:
        near = difflib.get_close_matches(name, [one for one in known if not one.startswith("_")], 1)
        meant = f"; did you mean {owner}.{near[0]}?" if near else ""
        say_once(f"there is no {owner}.{name} in Lossbook; it does nothing{meant}")
    return Unanswered(f"{owner}.{name}")
