"""TensorBoard's event file: its records, its messages, and a writer that can be killed anywhere.

The file is a sequence of records (see `tfrecord`), each a protobuf message `Event`. The messages are written here by
hand: they have not changed since 2015, and the libraries that write them import torch when it is installed, which
takes two seconds and 200 MB in a process that only copies numbers.

Sources: tensorboard/compat/proto/{event,summary,tensor}.proto and
tensorboard/plugins/{hparams/plugin_data,custom_scalar/layout}.proto (messages).
"""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterable, Mapping, Sequence

from lossbook.trackers.tensorboard.tfrecord import record

#: What is not yet written is kept in memory up to here.
BUFFER_BYTES = 8 << 20
#: The largest record that `EventFile.cut` reads to see whether it may be blotted out.
LARGEST_TAIL_BYTES = 64 << 20

_HEADER = struct.Struct("<QI")
_DOUBLE = struct.Struct("<d")
_FLOAT = struct.Struct("<f")
_DT_STRING = 7
_SESSION_START = 1
_INFINITY = float("inf")


class EventFile:
    """Appends records; what `sync` returned from is there after any kill, and `cut` takes back what came later.

    Args:
        path: its name has to contain "tfevents", or TensorBoard passes over it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._file: int | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._length = 0

    def cut(self, length: int, ending: bytes) -> bool:
        """Open the file and make it end at `length`.

        A TensorBoard that is running keeps its place in the file and stumbles when another record is written there
        than the one that it has read. Rows are written again as they were; the record of a run's end is not, so
        that one stays in its length and loses its contents.

        Args:
            length: what the last `sync` returned.
            ending: bytes by which the record of a run's end is known.

        Returns:
            False when the file is shorter, or not there: what it held is lost, and `start` has to begin it again.

        Raises:
            OSError: it cannot be opened or written.
        """
        self.close()
        try:
            self._file = os.open(self.path, os.O_RDWR)
        except FileNotFoundError:
            return False
        size = os.fstat(self._file).st_size
        if size < length or length == 0:
            return False
        self._length = length
        if size > length:
            if self._is_ending(length, size, ending):
                blank = blank_record(size - length - 16)
                os.pwrite(self._file, record(blank), length)
                self._length = size
            else:
                os.ftruncate(self._file, length)
            os.fsync(self._file)
        os.lseek(self._file, self._length, os.SEEK_SET)
        return True

    def _is_ending(self, length: int, size: int, ending: bytes) -> bool:
        if self._file is None or not 64 <= size - length <= LARGEST_TAIL_BYTES:
            return False
        tail = os.pread(self._file, size - length, length)
        (message_bytes, _) = _HEADER.unpack_from(tail)
        return int(message_bytes) + 16 == len(tail) and ending in tail

    def start(self, time: float) -> None:
        """Begin the file, whatever it held.

        Raises:
            OSError: it cannot be written.
        """
        self.close()
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        self._length = 0
        self.append(event(time, None, file_version="brain.Event:2"))
        # TensorBoard's server takes the first restart in a file for its beginning: only from the second one on
        # does it forget anything.
        self.append(event(time, None, restart=True))

    def append(self, message: bytes) -> None:
        """Add one `Event`.

        Raises:
            OSError: the file cannot be written; it then ends where the last `sync` left it, or later.
        """
        framed = record(message)
        self._waiting.append(framed)
        self._waiting_bytes += len(framed)
        if self._waiting_bytes > BUFFER_BYTES:
            self._write()

    def sync(self) -> int:
        """Put everything on the disk.

        Returns:
            The file's length now.

        Raises:
            OSError: the disk is full, or the file cannot be written.
        """
        if self._file is None:
            raise OSError(f"{self.path} is not open")
        if self._waiting:
            self._write()
            os.fsync(self._file)
        return self._length

    def _write(self) -> None:
        if self._file is None:
            raise OSError(f"{self.path} is not open")
        contents = memoryview(b"".join(self._waiting))
        self._waiting, self._waiting_bytes = [], 0
        while contents:
            written = os.write(self._file, contents)
            self._length += written
            contents = contents[written:]

    def close(self) -> None:
        """Leave the file; what was not synced is given up."""
        self._waiting, self._waiting_bytes = [], 0
        if self._file is not None:
            os.close(self._file)
            self._file = None


def blank_record(length: int) -> bytes:
    """An `Event` of exactly that length which every reader passes over: a log message of spaces."""
    # A length of a message takes one byte up to 127 and two after, so one of the two beginnings always fits.
    for beginning in (b"", _varint_field(2, 1)):
        for spaces in range(max(0, length - len(beginning) - 12), length):
            message = beginning + _bytes_field(6, _bytes_field(2, b" " * spaces))
            if len(message) == length:
                return message
    raise ValueError(f"no event has a length of {length} bytes")


# -- protobuf ---------------------------------------------------------------------------------------------------


def _varint(number: int) -> bytes:
    number &= 0xFFFFFFFFFFFFFFFF  # a negative int64 is its two's complement
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number >= 0x80:
        out.append((number & 0x7F) | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _varint_field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _text_field(number: int, value: str) -> bytes:
    return _bytes_field(number, value.encode("utf-8", "replace"))


def _double_field(number: int, value: float) -> bytes:
    return _varint(number << 3 | 1) + _DOUBLE.pack(value)


def _doubles_field(number: int, values: Sequence[float]) -> bytes:
    return _bytes_field(number, struct.pack(f"<{len(values)}d", *values))


# -- messages ---------------------------------------------------------------------------------------------------


def event(
    time: float, step: int | None, values: Iterable[bytes] = (), *, file_version: str = "", restart: bool = False
) -> bytes:
    """One `Event`.

    Args:
        time: Unix seconds.
        values: of one step: from `scalar`, `text`, `image`, `histogram`, `hyperparameters`, `layout`.
        file_version: in the first event of a file.
        restart: training began again at `step`: readers forget what they have at it and beyond.
    """
    parts = [_double_field(1, time)]
    if step:
        parts.append(_varint_field(2, step))
    if file_version:
        parts.append(_text_field(3, file_version))
    elif restart:
        parts.append(_bytes_field(7, _varint_field(1, _SESSION_START)))
    else:
        parts.append(_bytes_field(5, b"".join(values)))
    return b"".join(parts)


def _value(tag: str, contents: bytes, metadata: bytes = b"") -> bytes:
    return _bytes_field(1, _text_field(1, tag) + contents + metadata)


def _metadata(plugin: str, contents: bytes = b"") -> bytes:
    return _bytes_field(9, _bytes_field(1, _text_field(1, plugin) + _bytes_field(2, contents)))


def _string(value: bytes) -> bytes:
    """A tensor without dimensions: one of the shape (1,) would be drawn as a table of one cell."""
    return _bytes_field(8, _varint_field(1, _DT_STRING) + _bytes_field(2, b"") + _bytes_field(8, value))


def scalar(tag: str, value: float) -> bytes:
    """A number; TensorBoard has 32 bits for it, and what is larger than those hold becomes an infinity."""
    try:
        packed = _FLOAT.pack(value)
    except OverflowError:
        packed = _FLOAT.pack(_INFINITY if value > 0 else -_INFINITY)
    return _value(tag, b"\x15" + packed)  # 0x15: field 2, 32 bits


def text(tag: str, markdown: str) -> bytes:
    """A text, drawn as Markdown."""
    return _value(tag, _string(markdown.encode("utf-8", "replace")), _metadata("text"))


def image(tag: str, contents: bytes, width: int, height: int) -> bytes:
    """A picture as its file has it: PNG, JPEG, GIF or whatever the browser draws."""
    picture = _varint_field(1, height) + _varint_field(2, width) + _varint_field(3, 3) + _bytes_field(4, contents)
    return _value(tag, _bytes_field(4, picture))


def histogram(tag: str, edges: Sequence[float], counts: Sequence[float]) -> bytes:
    """A distribution: n + 1 edges, n counts. The sums, which TensorBoard does not draw, are those of bin centres."""
    # A reader takes the lower edge of the first bin that is not empty from `min`, and the upper one of the last from
    # `max`: bins that are empty at either end would stretch their neighbours, so they are left out.
    filled = [index for index, count in enumerate(counts) if count]
    if filled:
        edges, counts = edges[filled[0] : filled[-1] + 2], counts[filled[0] : filled[-1] + 1]
    centres = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
    contents = b"".join(
        (
            _double_field(1, edges[0] if edges else 0.0),
            _double_field(2, edges[-1] if edges else 0.0),
            _double_field(3, float(sum(counts))),
            _double_field(4, sum(centre * count for centre, count in zip(centres, counts, strict=False))),
            _double_field(5, sum(centre * centre * count for centre, count in zip(centres, counts, strict=False))),
            _doubles_field(6, edges[1:]),
            _doubles_field(7, counts),
        )
    )
    return _value(tag, _bytes_field(5, contents))


def hyperparameters(values: Mapping[str, object], group: str, started: float) -> bytes:
    """What the HPARAMS page shows of a run.

    Args:
        values: texts, booleans and numbers.
        group: runs of one group count as repetitions with the same values.
        started: Unix seconds.
    """
    entries = b"".join(_bytes_field(1, _text_field(1, key) + _bytes_field(2, _json(values[key]))) for key in values)
    contents = entries + _text_field(4, group) + _double_field(5, started)
    # No `_hparams_/experiment` beside it: the page takes the first that it finds for all runs, and would not show
    # what only other runs have. Without one it is made of what each run says.
    return _value("_hparams_/session_start_info", b"", _metadata("hparams", _bytes_field(3, contents)))


def _json(value: object) -> bytes:
    """google.protobuf.Value"""
    if isinstance(value, bool):
        return _varint_field(4, int(value))
    if isinstance(value, (int, float)):
        return _double_field(2, float(value))
    return _text_field(3, str(value))


#: By this the record of a run's end is known in the file.
ENDING = b"_hparams_/session_end_info"


def ended(successful: bool, time: float) -> bytes:
    """How the run ended, for the HPARAMS page."""
    contents = _varint_field(1, 1 if successful else 2) + _double_field(2, time)
    return _value(ENDING.decode(), b"", _metadata("hparams", _bytes_field(4, contents)))


def layout(charts: Mapping[str, Sequence[str]]) -> bytes:
    """Charts of several series for the CUSTOM SCALARS page: by title the regular expressions of their tags."""
    drawn = b"".join(
        _bytes_field(2, _text_field(1, title) + _bytes_field(2, b"".join(_text_field(1, tag) for tag in tags)))
        for title, tags in charts.items()
    )
    contents = _bytes_field(2, _text_field(1, "Lossbook") + drawn)
    return _value("custom_scalars__config__", _string(contents), _metadata("custom_scalars"))
