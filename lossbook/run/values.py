"""The kinds of value that become a row of their own: `Text`, `Histogram`, `Table`, `Image`.

numpy, torch and pandas are imported when a value needs them: one of theirs can only arrive when the user has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import orjson

from lossbook.handlers import is_of_handler
from lossbook.journal import encode_number
from lossbook.json_shapes import Json, JsonObject
from lossbook.run.messages import say_once
from lossbook.run.numbers import number_of
from lossbook.run.text import clean_text

#: A table larger than this (bytes of JSON) goes to a file in `media/`, so the journal stays quick to read.
INLINE_TABLE_BYTES = 1 << 16
_TABLE_WORDS = {"dtype", "optional", "allow_mixed_types", "log_mode"}


class FileOfRun(NamedTuple):
    """A content-addressed file that goes with a row: its path inside the run's folder, and its bytes."""

    path: str
    contents: bytes


class Event(NamedTuple):
    """A row that is no set of scalars."""

    kind: str
    key: str
    value: JsonObject
    file: FileOfRun | None = None
    #: Files of the pictures in a table's cells.
    more_files: tuple[FileOfRun, ...] = ()


class Media:
    """A value that becomes a row of its own."""

    def event(self, key: str) -> Event:
        """Describe the row.

        Raises:
            ValueError, TypeError: the contents cannot be kept; the message says why.
        """
        raise TypeError(f"{type(self).__name__} describes no row")


class Text(Media):
    """A text, a generated sample say."""

    def __init__(self, text: object) -> None:
        self.text = str(text)

    def event(self, key: str) -> Event:
        return Event("text", key, {"text": self.text.encode("utf-8", "replace").decode()})


class Histogram(Media):
    """A distribution: from values, or from edges and counts.

    Args:
        values: array-like of any shape; NaN and infinities are counted apart.
        bins: equal bins over the finite range, at the most.
        edges: n + 1 increasing numbers, in place of `values`.
        counts: n counts, with `edges`.
        sequence, np_histogram, num_bins: W&B's names of `values`, of (`counts`, `edges`) and of `bins`.
    """

    def __init__(
        self,
        values: object = None,
        np_histogram: tuple[Sequence[float], Sequence[float]] | None = None,
        num_bins: int | None = None,
        *,
        bins: int = 64,
        edges: Sequence[float] | None = None,
        counts: Sequence[float] | None = None,
        sequence: object = None,
    ) -> None:
        self.values = values if sequence is None else sequence
        self.bins = bins if num_bins is None else num_bins
        self.edges, self.counts = edges, counts
        if np_histogram is not None:
            self.counts, self.edges = np_histogram

    def event(self, key: str) -> Event:
        if self.values is None:
            if self.edges is None or self.counts is None or len(self.edges) != len(self.counts) + 1:
                raise ValueError("a histogram takes values, or n + 1 edges with n counts")
            edges: list[Json] = [encode_number(float(edge)) for edge in self.edges]
            return Event("histogram", key, {"edges": edges, "counts": [float(count) for count in self.counts]})
        import numpy

        values = self.values
        detach = getattr(values, "detach", None)
        if callable(detach):
            values = detach().float().cpu().numpy()
        array = numpy.asarray(values, dtype=numpy.float64).ravel()
        finite = array[numpy.isfinite(array)]
        nonfinite = int(array.size - finite.size)
        if finite.size == 0:
            return Event("histogram", key, {"edges": [0.0, 0.0], "counts": [0], "nonfinite": nonfinite})
        low, high = float(finite.min()), float(finite.max())
        if low == high:
            body: JsonObject = {"edges": [low, high], "counts": [int(finite.size)]}
        else:
            counts, edges_array = numpy.histogram(finite, bins=max(1, self.bins), range=(low, high))
            body = {"edges": edges_array.tolist(), "counts": counts.tolist()}
        if nonfinite:
            body["nonfinite"] = nonfinite
        return Event("histogram", key, body)


class Table(Media):
    """Rows under named columns; cells are anything JSON can hold, the rest as text.

    Args:
        columns: names; taken from `dataframe` or from dictionaries in `rows` when absent.
        rows: a sequence of sequences, or of dictionaries.
        dataframe: a pandas or Polars frame, in place of both.
        data: W&B's name of `rows`, or of a frame.
        others: what else W&B's table takes; it describes how W&B shows a table, and has no meaning here.
    """

    def __init__(
        self,
        columns: Sequence[str] | None = None,
        rows: Any = None,
        *,
        dataframe: Any = None,
        data: Any = None,
        **others: object,
    ) -> None:
        unknown = sorted(set(others) - _TABLE_WORDS)
        if unknown:
            raise TypeError(f"Table() got an unexpected keyword argument {unknown[0]!r}")
        rows = data if rows is None else rows
        rows = () if rows is None else rows
        if dataframe is None and hasattr(rows, "columns"):
            dataframe = rows
        if dataframe is not None:
            columns = [str(name) for name in dataframe.columns]
            cells = dataframe.rows() if hasattr(dataframe, "rows") else dataframe.itertuples(index=False, name=None)
            rows = [list(row) for row in cells]
        else:
            rows = list(rows)
        if columns is None and rows and isinstance(rows[0], Mapping):
            columns = list(dict.fromkeys(str(name) for row in rows for name in row))
        self.columns = [str(name) for name in columns or ()]
        self.rows: list[list[object]] = [
            [row.get(name) for name in self.columns] if isinstance(row, Mapping) else list(row) for row in rows
        ]

    def add_row(self, *cells: object) -> None:
        """Add one row, a cell for each column."""
        self.rows.append(list(cells))

    def add_data(self, *cells: object) -> None:
        """`add_row`, as W&B calls it."""
        self.add_row(*cells)

    def add_column(self, name: str, data: Iterable[object], optional: bool = False) -> None:
        """Add one column, a cell for each row.

        Raises:
            ValueError: there are more or fewer cells than rows.
        """
        cells = list(data)
        if self.columns and len(cells) != len(self.rows):
            raise ValueError(f"the column {name!r} has {len(cells)} cells for {len(self.rows)} rows")
        if not self.columns:
            self.rows = [[] for _ in cells]
        self.columns.append(str(name))
        for row, cell in zip(self.rows, cells, strict=True):
            row.append(cell)

    def get_column(self, name: str, convert_to: str | None = None) -> Any:
        """The cells of one column, as a list, or with `convert_to="numpy"` as an array.

        Raises:
            KeyError: there is no such column.
        """
        if name not in self.columns:
            raise KeyError(f"there is no column {name!r}; the table has {', '.join(self.columns)}")
        place = self.columns.index(name)
        cells = [row[place] for row in self.rows]
        if convert_to != "numpy":
            return cells
        import numpy

        return numpy.array(cells)

    def get_dataframe(self) -> Any:
        """The table as a pandas frame."""
        import pandas

        return pandas.DataFrame.from_records(self.rows, columns=self.columns)

    def iterrows(self) -> Iterator[tuple[int, list[object]]]:
        """The rows with their numbers, from 0."""
        yield from enumerate(self.rows)

    @property
    def data(self) -> list[list[object]]:
        """The rows, as W&B calls them."""
        return self.rows

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in ("columns", "rows"):
            raise AttributeError(name)
        return import_module("lossbook.compat.wandb.table_methods").find_word(self, name)

    def event(self, key: str) -> Event:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"row {number} has {len(row)} cells for {len(self.columns)} columns")
        pictures: list[FileOfRun] = []
        rows: list[Json] = [[_cell(cell, pictures) for cell in row] for row in self.rows]
        columns: list[Json] = [*self.columns]
        text = orjson.dumps({"columns": columns, "rows": rows})
        if len(text) <= INLINE_TABLE_BYTES:
            return Event("table", key, {"columns": columns, "rows": rows}, None, tuple(pictures))
        file = FileOfRun(f"media/{_sha256(text)}.json", text)
        value: JsonObject = {"file": file.path, "columns": columns, "count": len(rows)}
        return Event("table", key, value, file, tuple(pictures))


class Image(Media):
    """A picture.

    Args:
        image: an array (height, width[, 1|3|4]) of uint8 or of floats 0 to 1, a torch tensor of that shape or with
            its channels first, a PIL image, a matplotlib figure, or a file's path.
        mode: what a PIL image is converted to ("L", "RGB").
        caption: a line to show with it.
        data_or_path: W&B's name of `image`.
        grouping, classes, boxes, masks, file_type: taken as W&B takes them; boxes and masks are not kept.
    """

    def __init__(
        self,
        image: object = None,
        mode: str | None = None,
        caption: str | None = None,
        grouping: int | None = None,
        classes: object = None,
        boxes: object = None,
        masks: object = None,
        file_type: str | None = None,
        *,
        data_or_path: object = None,
        normalize: bool = True,
    ) -> None:
        image = data_or_path if image is None else image
        if isinstance(image, Image):
            caption = image.caption if caption is None else caption
            mode, image = mode or image.mode, image.image
        self.image: object = image
        self.mode: str | None = mode
        self.caption: str | None = caption
        if boxes or masks:
            say_once("the boxes and masks of an Image are not kept; draw them into the picture")

    def event(self, key: str) -> Event:
        from lossbook.run.images import draw_picture

        contents, ending, width, height = draw_picture(self.image, self.mode)
        file = FileOfRun(f"media/{_sha256(contents)}.{ending}", contents)
        body: JsonObject = {"file": file.path}
        if width:
            body.update(width=width, height=height)
        if self.caption is not None:
            body["caption"] = str(self.caption)
        return Event("image", key, body, file)


def _cell(cell: object, pictures: list[FileOfRun]) -> Json:
    if isinstance(cell, Media):
        event = cell.event("")
        if event.file is not None:
            pictures.append(event.file)
        return {"kind": event.kind, **event.value}
    if isinstance(cell, str):
        return clean_text(cell)
    if cell is None or isinstance(cell, bool):
        return cell
    if isinstance(cell, int):
        return cell if -(1 << 63) <= cell < 1 << 63 else float(cell)
    if isinstance(cell, float):
        return encode_number(cell)
    try:
        return encode_number(number_of(cell))
    except Exception as error:
        if is_of_handler(error):
            raise
        return clean_text(cell)


def _sha256(contents: bytes) -> str:
    import hashlib

    return hashlib.sha256(contents).hexdigest()
