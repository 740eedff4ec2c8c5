"""Notes in a store that say which runs are followed from which place.

A follower makes one when it begins with a run and takes it back when all that its place wrote is sealed. What a killed
follower left is so found by the next one of its place, without a look into every run.
"""

from __future__ import annotations

import os

from lossbook.journal import place_name
from lossbook.paths import FOLLOWED, RunFolder, file_names, make_folder, safe_name
from lossbook.processes import this_place

#: Between the project and the run in the name of a note: no folder's name has it.
_BETWEEN = "~"


def note_followed(folder: RunFolder) -> None:
    """Note in the store that a run is followed from this place.

    Raises:
        OSError: the store cannot be written.
    """
    path = note_path(folder)
    for left in (2, 1, 0):
        try:
            make_folder(os.path.dirname(os.path.dirname(path)))
            make_folder(os.path.dirname(path))
            with open(path, "ab"):
                return
        except FileNotFoundError:  # another follower has just taken its last note back
            if not left:
                raise


def forget_followed(folder: RunFolder) -> None:
    """Take the note back: what this place wrote of the run is sealed. Once all of it is, those of other places go too."""
    from lossbook.storage import list_segments

    path = note_path(folder)
    notes = [path]
    place, name = os.path.split(path)
    followed = os.path.dirname(place)
    if all(segment.is_sealed for segment in list_segments(folder)):
        try:
            notes += [os.path.join(followed, other, name) for other in os.listdir(followed)]
        except OSError:
            pass
    for note in notes:
        try:
            os.unlink(note)
            os.rmdir(os.path.dirname(note))
        except OSError:
            continue  # others are followed still
    try:
        os.rmdir(followed)
    except OSError:
        pass


def noted_runs(store: str) -> list[RunFolder]:
    """The runs of a store that are noted as followed from this place, by this follower or by one before it."""
    found = []
    for name in file_names(os.path.join(store, FOLLOWED, place_name(this_place()))):
        project, _, run = name.partition(_BETWEEN)
        if run and safe_name(project) == project and safe_name(run) == run:
            found.append(RunFolder(os.path.join(store, project, run)))
    return found


def note_path(folder: RunFolder) -> str:
    """Where the note of this place on a run is."""
    project, run = os.path.split(os.path.abspath(folder.path))
    store, project = os.path.split(project)
    return os.path.join(store, FOLLOWED, place_name(this_place()), f"{project}{_BETWEEN}{run}")
