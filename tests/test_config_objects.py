"""What a configuration may hold: objects of every kind keep their structure, and no value makes `init()` raise."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import enum
import functools
import pathlib
import time
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy
import pytest

import lossbook
from lossbook.run.config import plain_config


class Adam(NamedTuple):
    lr: float
    api_key: str


@dataclasses.dataclass
class Schedule:
    warmup: int
    optimizer: object
    steps: list[object] = dataclasses.field(default_factory=list)


class Layer:
    """A plain object, as people write them by hand."""

    def __init__(self, size: int, inner: object = None) -> None:
        self.size = size
        self.inner = inner
        self._cache = object()


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self) -> None:
        self.a = 1


class Activation(enum.Enum):
    GELU = "gelu"
    PAIR = (1, 2)


class HalfReadable(Mapping[str, Any]):
    """A mapping of which one value cannot be read, as OmegaConf's with `???`."""

    def __getitem__(self, key: str) -> Any:
        if key == "folder":
            raise ValueError("missing mandatory value: folder\nand a page more about it")
        return {"lr": 0.1, "model": {"size": 512}}[key]

    def __iter__(self) -> Iterator[str]:
        return iter(("lr", "folder", "model"))

    def __len__(self) -> int:
        return 3


class Hostile:
    """Raises whatever it is asked for that it does not have."""

    def __init__(self) -> None:
        self.width = 8

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    @property
    def height(self) -> int:
        raise RuntimeError("height")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (argparse.Namespace(lr=0.1, _seed=3), {"lr": 0.1, "_seed": 3}),
        (types.SimpleNamespace(a=types.SimpleNamespace(b=1)), {"a": {"b": 1}}),
        (
            Schedule(10, Layer(4), [Layer(5, Layer(6))]),
            {
                "warmup": 10,
                "optimizer": {"size": 4, "inner": None},
                "steps": [{"size": 5, "inner": {"size": 6, "inner": None}}],
            },
        ),
        (Slotted(), {"a": 1}),
        (collections.deque([Layer(1)]), [{"size": 1, "inner": None}]),
        (collections.ChainMap({"a": 1}), {"a": 1}),
        (collections.UserList([1, 2]), [1, 2]),
        (types.MappingProxyType({"a": {1: 2}}), {"a": {"1": 2}}),
        ({"a": 1}.keys(), ["a"]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", 1}), [1, "b"]),
        (range(3), [0, 1, 2]),
        (range(10**12), "range(0, 1000000000000)"),
        (pathlib.Path("/store/corpus"), "/store/corpus"),
        ([Activation.GELU, Activation.PAIR], ["gelu", "PAIR"]),
        ([numpy.float32(0.5), numpy.int64(3), numpy.bool_(True)], [0.5, 3, True]),
        ([numpy.arange(3), numpy.array(4), numpy.dtype("float32")], [[0, 1, 2], 4, "float32"]),
        (len, "builtins.len"),
        (functools.partial(print, object), "functools.partial(<built-in function print>, <class 'object'>)"),
        (object(), "<builtins.object>"),
        (b"ab", "b'ab'"),
        (float("nan"), "NaN"),
        (1 << 70, str(1 << 70)),
    ],
)
def test_a_value_keeps_its_structure_at_every_depth(value: object, kept: object) -> None:
    assert plain_config({"one": value, "deep": {"in": [value]}}) == {"one": kept, "deep": {"in": [kept]}}


def test_an_object_that_raises_is_kept_as_far_as_it_can_be_read() -> None:
    assert plain_config({"one": [Hostile()]}) == {"one": [{"width": 8}]}


def test_torch_values_are_numbers_lists_and_names() -> None:
    torch = pytest.importorskip("torch")
    values = [torch.tensor(3.0), torch.tensor([1, 2]), torch.Size([4, 5]), torch.bfloat16, torch.device("cpu")]
    assert plain_config({"values": values})["values"] == [3.0, [1, 2], [4, 5], "torch.bfloat16", "cpu"]


def test_models_of_pydantic_and_attrs_are_dictionaries_in_lists_and_in_one_another() -> None:
    pydantic, attrs = pytest.importorskip("pydantic"), pytest.importorskip("attrs")
    Inner = attrs.make_class("Inner", {"size": attrs.field(default=4)}, slots=True)
    Outer = pydantic.create_model("Outer", inner=(Any, Inner()), hf_token=(str, "hidden"))
    kept = {"inner": {"size": 4}, "hf_token": "***"}
    assert plain_config({"models": [Outer()], "one": {"two": Outer()}}) == {"models": [kept], "one": {"two": kept}}
    assert plain_config(Outer()) == kept
    assert plain_config(Inner()) == {"size": 4}


def test_omegaconf_keeps_what_can_be_read_and_says_what_cannot() -> None:
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create(
        {
            "lr": 0.1,
            "model": {"size": 8, "width": "???"},
            "layers": [1, "???", {"a": "${lr}"}],
            "root": "${nowhere.at.all}",
        }
    )
    kept = plain_config(config)
    assert (kept["lr"], kept["model"]["size"], kept["layers"][0], kept["layers"][2]) == (0.1, 8, 1, {"a": 0.1})
    assert plain_config(omegaconf.OmegaConf.create([1, {"a": 2}])) == {"config": [1, {"a": 2}]}
    for unreadable in (kept["model"]["width"], kept["layers"][1], kept["root"]):
        assert unreadable.startswith("<unreadable: ")
        assert "\n" not in unreadable


def test_one_value_that_cannot_be_read_leaves_the_others(tmp_path: pathlib.Path) -> None:
    run = lossbook.init(project="p", config=HalfReadable(), store=tmp_path, system_metrics=False, console=False)
    run.config.update({"later": HalfReadable()})
    run.config.update(HalfReadable())
    run.config.setdefaults(HalfReadable())
    run.finish()
    text = "<unreadable: ValueError: missing mandatory value: folder>"
    kept = {"lr": 0.1, "model": {"size": 512}, "folder": text}
    assert lossbook.open(tmp_path).run().config == {**kept, "later": kept}


def test_a_mapping_without_readable_keys_is_said_to_be_one(tmp_path: pathlib.Path) -> None:
    class Broken(HalfReadable):
        def __iter__(self) -> Iterator[str]:
            raise RuntimeError("no keys")

    assert plain_config(Broken()) == {"config": "<unreadable: RuntimeError: no keys>"}
    assert plain_config({"a": 1, "b": Broken()}) == {"a": 1, "b": "<unreadable: RuntimeError: no keys>"}


def test_circles_and_deep_nesting_end() -> None:
    circle: dict[str, object] = {"lr": 0.1}
    circle["self"] = circle
    layer = Layer(1)
    layer.inner = [layer]
    deep: object = 1
    for _ in range(900):
        deep = {"d": deep}
    kept = plain_config({"circle": circle, "layer": layer, "deep": deep})
    assert kept["circle"] == {"lr": 0.1, "self": "<dict that contains itself>"}
    assert kept["layer"] == {"size": 1, "inner": ["<Layer that contains itself>"]}
    assert "nested deeper than 50" in str(kept["deep"])


def test_parts_that_multiply_without_end_are_cut() -> None:
    many: object = [1.0]
    for _ in range(45):
        many = [many, many]
    assert "<left out: too many values>" in str(plain_config({"many": many, "after": 1}))[-1000:]


def test_an_object_that_holds_a_data_set_is_a_text() -> None:
    kept = plain_config({"data": Layer(0, [list(range(100)) for _ in range(200)]), "lr": 0.1})
    assert isinstance(kept["data"], str)
    assert kept["lr"] == 0.1


def test_secrets_are_masked_in_objects_and_in_named_tuples() -> None:
    config = {"adam": Adam(0.1, "abcdefgh"), "layers": [Layer(1, {"password": "abcdefgh", "token12": "fine"})]}
    kept = plain_config({**config, "auth_token": ["abcdefgh", 1234567, 12]})
    assert plain_config(Adam(0.1, "abcdefgh")) == {"lr": 0.1, "api_key": "***"}
    assert kept["adam"] == {"lr": 0.1, "api_key": "***"}
    assert kept["layers"][0]["inner"] == {"password": "***", "token12": "fine"}
    assert kept["auth_token"] == ["***", "***", 12]


@pytest.mark.parametrize(
    "value_of",
    [int, lambda number: number / 3, lambda number: f"value {number}", lambda number: {"a-b": f"of: {number}"}],
    ids=["numbers", "fractions", "texts", "dictionaries"],
)
def test_many_keys_are_kept(value_of: Callable[[int], object]) -> None:
    given = {f"layer.{number}": value_of(number) for number in range(300_000)}
    begun = time.process_time()
    kept = plain_config(given)
    print(f"{time.process_time() - begun:.2f} s for 300,000 keys")
    assert kept == given


def test_a_value_of_a_class_that_cannot_be_hashed_or_compared_is_a_text() -> None:
    class Odd(type):
        def __eq__(cls, other: object) -> bool:
            raise RuntimeError("no comparison")

        __hash__ = None  # type: ignore[assignment]

    value = Odd("Value", (), {"__repr__": lambda self: "odd"})()
    assert plain_config({"odd": value, "lr": 0.1})["lr"] == 0.1
