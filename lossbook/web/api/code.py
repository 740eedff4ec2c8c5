"""What exactly was run: the commit and what was changed since, the script, packages, environment; as it was captured.

Secrets were masked when it was captured, and nothing here looks behind the mask.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import orjson

from lossbook.errors import BadArgument, LossbookError
from lossbook.json_shapes import JsonObject
from lossbook.paths import file_names
from lossbook.reading import RecordedRun
from lossbook.run_info import RunInfo
from lossbook.web import schemas
from lossbook.web.file_response import open_inside
from lossbook.web.routing import get
from lossbook.web.session import Session

MOST_DIFF_BYTES = 2 << 20
MOST_TEXT_BYTES = 1 << 20
_OURS = frozenset(("git.json", "diff.patch", "environment.json", "packages.txt"))
_ATTEMPT = re.compile(r"attempt-(\d{1,5})\Z")


@dataclass(frozen=True)
class CodeQuestion:
    """`attempt`: None for the latest that has code of its own."""

    project: str
    run: str
    attempt: int | None = None


def code(session: Session, question: CodeQuestion) -> schemas.Code:
    """What one attempt of a run was made of.

    Raises:
        BadArgument: the run has no code of that attempt.
    """
    run = session.run(question.project, question.run)
    attempts = _attempts(run.folder.code)
    number = question.attempt if question.attempt is not None else max(attempts, default=0)
    if question.attempt is not None and attempts and number not in attempts:
        known = ", ".join(map(str, attempts))
        raise BadArgument(f"the run {run.name} has no code of attempt {number}; it has that of {known}")
    where = "code" if number == 0 else f"code/attempt-{number}"
    problems: list[str] = []
    diff, diff_truncated = _text(run, f"{where}/diff.patch", MOST_DIFF_BYTES, problems)
    script_file = _script_file(os.path.join(run.path, where))
    script, _ = _text(run, f"{where}/{script_file}", MOST_TEXT_BYTES, problems) if script_file else (None, False)
    packages, _ = _text(run, f"{where}/packages.txt", MOST_TEXT_BYTES, problems)
    info = _info(run, problems)
    git: dict[str, object] | None = _object(run, f"{where}/git.json", problems) or {**_git_of(info, number)} or None
    if diff_truncated:
        problems.append(
            f"the diff is longer than {MOST_DIFF_BYTES >> 20} MB; all that was kept is in {where}/diff.patch"
        )
    return schemas.Code(
        git=git,
        diff=diff,
        diff_truncated=diff_truncated,
        script_name=script_file or (os.path.basename(info.script) if info.script else None),
        script=script,
        packages=packages,
        environment=_object(run, f"{where}/environment.json", problems),
        attempts=attempts,
        attempt=number,
        problems=problems,
    )


def _attempts(folder: str) -> list[int]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    found = {int(matched[1]) for name in names if (matched := _ATTEMPT.match(name)) is not None}
    if any(_ATTEMPT.match(name) is None for name in names):
        found.add(0)
    return sorted(found)


def _script_file(folder: str) -> str | None:
    """The script as it was kept: the one file of a folder of code that is none of ours."""
    return min((name for name in file_names(folder) if name not in _OURS and not name.endswith(".tmp")), default=None)


def _info(run: RecordedRun, problems: list[str]) -> RunInfo:
    try:
        return run.info
    except LossbookError as error:
        problems.append(str(error))
        return run.known_info


def _git_of(info: RunInfo, number: int) -> JsonObject:
    of_attempt = next((one.git for one in info.attempts if one.number == number), None)
    git = of_attempt or info.git
    return git.to_json() if git is not None else {}


def _text(run: RecordedRun, path: str, most_bytes: int, problems: list[str]) -> tuple[str | None, bool]:
    """A text of the run and whether it was cut; None where it has no such file."""
    if not os.path.lexists(os.path.join(run.path, path)):
        return None, False
    try:
        with open_inside(run.path, path) as file:
            text, is_cut = file.head(most_bytes)
    except (LossbookError, OSError) as error:
        problems.append(str(error))
        return None, False
    return text.decode("utf-8", "replace"), is_cut


def _object(run: RecordedRun, path: str, problems: list[str]) -> dict[str, object] | None:
    text, is_cut = _text(run, path, MOST_TEXT_BYTES, problems)
    if text is None:
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if isinstance(value, dict) and not is_cut:
        return value
    problems.append(f"{os.path.join(run.path, path)} is damaged: it holds no JSON object")
    return None


ROUTES = [get("/api/run/code", CodeQuestion, code)]
