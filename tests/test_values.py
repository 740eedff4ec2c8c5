"""What can be logged, and what becomes of it: numbers exactly, media as rows of their own, the rest as a warning."""

from __future__ import annotations

import decimal
import enum
import fractions
import hashlib
import json
import math
import struct
import subprocess
import sys
import zlib
from collections import OrderedDict, defaultdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy
import pytest
from hypothesis import given, strategies as st

import lossbook
from lossbook.run.split import Split, split
from lossbook.run.values import INLINE_TABLE_BYTES


class Level(enum.IntEnum):
    HIGH = 3


class Broken:
    """A foreign value that fails when it is asked for its number."""

    def item(self) -> float:
        raise RuntimeError("device lost")


def only(metrics: Any) -> Split:
    """What `metrics` becomes; nothing in it may be a warning."""
    parts = split(metrics)
    assert parts.warnings == []
    return parts


def warning(value: Any) -> str:
    """The sentence that a value becomes which cannot be recorded; what stands beside it is."""
    parts = split({"bad": value, "good": 1.0})
    assert parts.scalars == {"good": 1.0}
    ((key, sentence),) = parts.warnings
    assert key.startswith("bad")
    return sentence


# -- numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3.0),
        (True, 1.0),
        (0.1, 0.1),
        (-0.0, -0.0),
        (5e-324, 5e-324),
        (1 << 60, float(1 << 60)),
        (10**400, math.inf),
        (-(10**400), -math.inf),
        (decimal.Decimal("0.25"), 0.25),
        (fractions.Fraction(1, 4), 0.25),
        (Level.HIGH, 3.0),
        (numpy.float64(0.1), 0.1),
        (numpy.float32(0.5), 0.5),
        (numpy.float16(0.5), 0.5),
        (numpy.longdouble(0.5), 0.5),
        (numpy.int64(-7), -7.0),
        (numpy.uint64((1 << 64) - 1), float((1 << 64) - 1)),
        (numpy.bool_(True), 1.0),
        (numpy.array(2.5), 2.5),
        (numpy.array([2.5]), 2.5),
        (numpy.array([[2.5]], dtype=numpy.float32), 2.5),
    ],
)
def test_a_number_becomes_the_nearest_float(value: Any, number: float) -> None:
    (found,) = only({"a": value}).scalars.values()
    assert type(found) is float
    assert struct.pack("d", found) == struct.pack("d", number)


@given(st.floats(width=32))
def test_every_float32_is_kept_exactly(value: float) -> None:
    (found,) = only({"a": numpy.float32(value)}).scalars.values()
    assert found == value or (math.isnan(found) and math.isnan(value))


def test_torch_tensors_of_one_element_are_numbers() -> None:
    torch = pytest.importorskip("torch")
    parts = only(
        {
            "loss": torch.tensor(0.5, requires_grad=True) * 2,
            "half": torch.tensor(0.5, dtype=torch.bfloat16),
            "count": torch.tensor([[7]]),
            "flag": torch.tensor(True),
            "weight": torch.nn.Parameter(torch.tensor(0.25)),
            "nan": torch.tensor(math.nan),
        }
    )
    assert not parts.deferred, "a tensor on the CPU is read at once"
    assert math.isnan(parts.scalars.pop("nan"))
    assert parts.scalars == {"loss": 1.0, "half": 0.5, "count": 7.0, "flag": 1.0, "weight": 0.25}


def test_nested_dictionaries_are_flattened() -> None:
    assert only({"train": {"loss": 1, "acc": {"top1": 2}}, "lr": 3}).scalars == {
        "train/loss": 1.0,
        "train/acc/top1": 2.0,
        "lr": 3.0,
    }


@pytest.mark.parametrize("kind", [OrderedDict, MappingProxyType, lambda items: defaultdict(float, items)])
def test_every_kind_of_mapping_will_do(kind: Any) -> None:
    assert only(kind({"a": kind({"b": 1.0})})).scalars == {"a/b": 1.0}


@pytest.mark.parametrize("key", ["loss/train", "with space", "größe", "", "x" * 10_000, "\n", '"', "\0", "🙂"])
def test_every_text_is_a_key(key: str) -> None:
    assert only({key: 1.0}).scalars == {key: 1.0}


def test_keys_that_are_no_text_are_made_one() -> None:
    assert only({7: 1.0, None: 2.0, ("a", 1): 3.0}).scalars == {"7": 1.0, "None": 2.0, "('a', 1)": 3.0}
    assert list(only({"lone \ud800": 1.0}).scalars) == ["lone ?"]


# -- what is no number --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("low", "lossbook.Text"),
        (b"low", "lossbook.Text"),
        (None, "None is no number"),
        (1 + 2j, "complex"),
        ([1, 2], "TypeError"),
        (object(), "TypeError"),
        (numpy.array([1.0, 2.0]), "2 elements"),
        (numpy.array([]), "0 elements"),
        (numpy.array("text"), "lossbook.Text"),
        (numpy.datetime64("2026-01-01"), "TypeError"),
        (Broken(), "device lost"),
        (decimal.Decimal("sNaN"), "ValueError"),
    ],
)
def test_what_is_no_number_is_a_warning_that_says_why(value: Any, words: str) -> None:
    assert words in warning(value)


def test_a_torch_tensor_of_many_elements_is_a_warning() -> None:
    torch = pytest.importorskip("torch")
    assert "log a scalar or lossbook.Histogram of it" in warning(torch.zeros(3))


def test_a_dictionary_that_holds_itself_is_a_warning() -> None:
    circle: dict[str, Any] = {}
    circle["again"] = circle
    assert "contains itself" in warning(circle)


def test_a_dictionary_nested_too_deep_is_a_warning() -> None:
    deep: dict[str, Any] = {"loss": 1.0}
    for _ in range(30):
        deep = {"a": deep}
    assert "nested deeper" in warning(deep)


@pytest.mark.parametrize("metrics", [None, 1.0, "loss", [("loss", 1.0)], {"loss"}])
def test_what_is_no_dictionary_is_a_warning(metrics: Any) -> None:
    parts = split(metrics)
    assert parts.scalars == {}
    assert "log() takes a dictionary" in parts.warnings[0][1]


# -- media --------------------------------------------------------------------------------------------------------


def event(value: Any) -> Any:
    """The row that one piece of media becomes."""
    (found,) = only({"key": value}).events
    assert found.key == "key"
    json.dumps(found.value, allow_nan=False)
    return found


def test_a_text_is_kept_as_it_is() -> None:
    assert event(lossbook.Text("once\nupon 🙂")).value == {"text": "once\nupon 🙂"}
    assert event(lossbook.Text("lone \ud800")).value == {"text": "lone ?"}


def test_a_histogram_counts_every_value_once() -> None:
    values = numpy.random.default_rng(0).normal(size=(100, 10))
    value = event(lossbook.Histogram(values, bins=32)).value
    assert len(value["edges"]) == 33
    assert len(value["counts"]) == 32
    assert sum(value["counts"]) == 1000
    assert (value["edges"][0], value["edges"][-1]) == (values.min(), values.max())


def test_a_histogram_of_edges_and_counts_is_taken_as_given() -> None:
    value = event(lossbook.Histogram(edges=[0, 1, 4], counts=[5, 6])).value
    assert value == {"edges": [0.0, 1.0, 4.0], "counts": [5.0, 6.0]}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], {"edges": [0.0, 0.0], "counts": [0], "nonfinite": 0}),
        ([math.nan, math.inf], {"edges": [0.0, 0.0], "counts": [0], "nonfinite": 2}),
        ([2.0, 2.0], {"edges": [2.0, 2.0], "counts": [2]}),
        ([1.0, math.nan, 1.0], {"edges": [1.0, 1.0], "counts": [2], "nonfinite": 1}),
    ],
)
def test_a_histogram_of_odd_values_is_one_too(values: list[float], expected: dict[str, Any]) -> None:
    assert event(lossbook.Histogram(values)).value == expected


def test_a_histogram_takes_a_bfloat16_tensor() -> None:
    torch = pytest.importorskip("torch")
    value = event(lossbook.Histogram(torch.ones(4, dtype=torch.bfloat16, requires_grad=True))).value
    assert value == {"edges": [1.0, 1.0], "counts": [4]}


@pytest.mark.parametrize("arguments", [{}, {"edges": [0, 1]}, {"edges": [0, 1], "counts": [1, 2]}])
def test_a_histogram_without_all_its_parts_is_a_warning(arguments: dict[str, Any]) -> None:
    assert "n + 1 edges with n counts" in warning(lossbook.Histogram(**arguments))


def test_a_table_holds_what_json_can_and_the_rest_as_text() -> None:
    table = lossbook.Table(columns=["step", "text", "loss"], rows=[[1, "a", 0.5]])
    table.add_row(numpy.int64(2), None, math.nan)
    table.add_row(True, Path("x"), decimal.Decimal("1.5"))
    assert event(table).value == {
        "columns": ["step", "text", "loss"],
        "rows": [[1, "a", 0.5], [2.0, None, "NaN"], [True, "x", 1.5]],
    }


def test_a_table_of_dictionaries_finds_its_columns() -> None:
    value = event(lossbook.Table(rows=[{"a": 1}, {"b": 2}])).value
    assert value == {"columns": ["a", "b"], "rows": [[1, None], [None, 2]]}


def test_a_table_takes_a_frame() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert event(lossbook.Table(dataframe=frame)).value == {"columns": ["a", "b"], "rows": [[1, "x"], [2, "y"]]}


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_frame_becomes_a_table_by_itself(library: str) -> None:
    frame = pytest.importorskip(library).DataFrame({"step": [1, 2], "said": ["a", "b"]})
    (event,) = only({"samples": frame}).events
    assert (event.kind, event.key) == ("table", "samples")
    assert event.value == {"columns": ["step", "said"], "rows": [[1, "a"], [2, "b"]]}


def test_a_table_takes_a_polars_frame() -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert event(lossbook.Table(dataframe=frame)).value == {"columns": ["a", "b"], "rows": [[1, "x"], [2, "y"]]}


def test_a_large_table_goes_to_a_file_named_by_what_it_holds() -> None:
    rows = [["x" * 100] for _ in range(INLINE_TABLE_BYTES // 100)]
    found = event(lossbook.Table(columns=["text"], rows=rows))
    assert found.value == {"file": found.file.path, "columns": ["text"], "count": len(rows)}
    assert found.file.path == f"media/{hashlib.sha256(found.file.contents).hexdigest()}.json"
    assert json.loads(found.file.contents)["rows"] == rows


def test_a_table_with_a_row_of_another_length_is_a_warning() -> None:
    assert "row 1 has 1 cells for 2 columns" in warning(lossbook.Table(columns=["a", "b"], rows=[[1, 2], [3]]))


def pixels(png: bytes) -> tuple[int, int, int, bytes]:
    """Decode one of our PNGs by the book: width, height, channels, rows."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height, depth, colour = struct.unpack(">IIBB", png[16:26])
    assert depth == 8
    channels = {0: 1, 2: 3, 6: 4}[colour]
    start = png.index(b"IDAT")
    (length,) = struct.unpack(">I", png[start - 4 : start])
    raw = zlib.decompress(png[start + 4 : start + 4 + length])
    stride = width * channels + 1
    assert {raw[row * stride] for row in range(height)} == {0}
    return width, height, channels, b"".join(raw[row * stride + 1 : (row + 1) * stride] for row in range(height))


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 3), (4, 6, 4)])
def test_an_array_becomes_a_png_of_the_same_pixels(shape: tuple[int, ...]) -> None:
    array = numpy.random.default_rng(0).integers(0, 256, size=shape, dtype=numpy.uint8)
    found = event(lossbook.Image(array, caption="a sample"))
    assert pixels(found.file.contents) == (6, 4, shape[2] if len(shape) == 3 else 1, array.tobytes())
    digest = hashlib.sha256(found.file.contents).hexdigest()
    assert found.value == {"file": f"media/{digest}.png", "width": 6, "height": 4, "caption": "a sample"}


def test_floats_from_0_to_1_are_rounded_and_held_to_what_a_pixel_can_be() -> None:
    array = numpy.array([[0.0, 0.5, 1.0, 7.0, -1.0, math.nan]])
    assert pixels(event(lossbook.Image(array)).file.contents)[3] == bytes([0, 128, 255, 255, 0, 0])


def test_a_picture_in_a_file_is_copied_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "sample.JPG"
    path.write_bytes(b"\xff\xd8 some picture")
    found = event(lossbook.Image(path))
    assert found.file.contents == path.read_bytes()
    assert found.value == {"file": f"media/{hashlib.sha256(path.read_bytes()).hexdigest()}.jpg"}


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (numpy.zeros((2, 2, 2)), "shape"),
        (numpy.zeros(3), "shape"),
        (numpy.zeros((0, 4)), "shape"),
        ("no-such-file.png", "FileNotFoundError"),
    ],
)
def test_what_is_no_picture_is_a_warning(image: Any, words: str) -> None:
    assert words in warning(lossbook.Image(image))


def test_a_file_that_is_no_picture_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert "is no picture" in warning(lossbook.Image(tmp_path / "notes.txt"))


def test_numbers_cost_no_library_that_the_user_does_not_have() -> None:
    code = "import sys; from lossbook.run.split import split; split({'a': {'b': 1}}); print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
