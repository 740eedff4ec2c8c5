"""A configuration says what was run, refuses what cannot be meant, and comes back from a file as it was."""

from __future__ import annotations

import copy
import json
import math
import pickle
import re
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from lossbook.errors import BadArgument
from lossbook.lm import ExperimentConfig


def written(folder: Path, text: str | bytes, name: str = "config.yaml") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refusal(path: Path) -> str:
    """What is said of a file that is refused."""
    with pytest.raises(BadArgument) as refused:
        ExperimentConfig.load(path)
    return str(refused.value)


# -- names, tags and twins ----------------------------------------------------------------------------------------


def test_the_name_says_model_dataset_type_and_time() -> None:
    config = ExperimentConfig(model_size="17M", dataset="tinystories", experiment_type="ablation")
    assert re.fullmatch(r"17M_tinystories_ablation_\d{8}_\d{6}(-\d+)?", config.name)
    assert config.tags == ["17M", "tinystories", "ablation"]


def test_names_made_within_a_second_differ_whatever_their_order() -> None:
    names = [ExperimentConfig(model_size=size).name for size in ("17M", "125M", "17M", "125M", "17M") * 20]
    assert len(set(names)) == len(names)


def test_own_tags_come_first_and_none_comes_twice() -> None:
    config = ExperimentConfig(dataset="tinystories", tags=["v1", "tinystories", "v1"])
    assert config.tags == ["v1", "tinystories", "baseline"]


def test_both_names_of_a_quantity_say_the_same() -> None:
    course = ExperimentConfig(max_iters=100, max_learning_rate=6e-4)
    module = ExperimentConfig(num_iterations=100, learning_rate=6e-4)
    for config in (course, module):
        assert (config.num_iterations, config.max_iters) == (100, 100)
        assert (config.learning_rate, config.max_learning_rate) == (6e-4, 6e-4)
    assert ExperimentConfig(learning_rate=3e-4, max_learning_rate="3e-4").learning_rate == 3e-4


def test_two_values_for_one_quantity_are_refused() -> None:
    with pytest.raises(BadArgument, match="two names of one value"):
        ExperimentConfig(num_iterations=10, max_iters=20)


def test_setting_one_name_sets_the_other_and_taking_it_back_does_too() -> None:
    config = ExperimentConfig(max_iters=100)
    config.num_iterations = 200
    assert config.max_iters == 200
    config.max_iters = None
    assert config.num_iterations is None
    assert "num_iterations" not in config.to_dict()


def test_a_field_is_checked_when_it_is_set_later_as_well() -> None:
    config = ExperimentConfig()
    with pytest.raises(BadArgument, match="learning_rate must be above 0, not -1"):
        config.learning_rate = -1
    with pytest.raises(BadArgument, match="did you mean d_model"):
        config.d_modell = 512
    assert config.learning_rate is None


# -- what is allowed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("learning_rate", -3e-4, "learning_rate must be above 0, not -0.0003"),
        ("learning_rate", 0, "learning_rate must be above 0, not 0"),
        ("learning_rate", math.nan, "learning_rate must be above 0, not nan"),
        ("learning_rate", math.inf, "learning_rate must be above 0, not inf"),
        ("learning_rate", "fast", "learning_rate is a number above 0, not 'fast'"),
        ("learning_rate", True, "learning_rate is a number above 0, not True"),
        ("beta1", 1.0, "beta1 must be from 0 to below 1, not 1.0"),
        ("beta2", -0.1, "beta2 must be from 0 to below 1"),
        ("d_model", 512.5, "d_model is a whole number, 1 or more, not 512.5"),
        ("d_model", 0, "d_model must be 1 or more, not 0"),
        ("d_model", math.inf, "d_model is a whole number"),
        ("batch_size", [64], r"batch_size is a whole number, 1 or more, not \[64\]"),
        ("warmup_iters", -1, "warmup_iters must be 0 or more"),
        ("weight_decay", {}, "weight_decay is a number"),
        ("architecture", "rnn", "architecture is one of gpt2, llama, not 'rnn'"),
        ("dataset", ["a"], "dataset is a text"),
        ("track_memory", "yes", "track_memory is true or false, not 'yes'"),
        ("track_memory", None, "track_memory is true or false"),
        ("tags", {"a": 1}, "tags is a list of words"),
        ("extra", ["a"], "extra is a mapping"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_with_what_is_allowed(field: str, value: Any, message: str) -> None:
    with pytest.raises(BadArgument, match=message) as refused:
        ExperimentConfig(**{field: value})
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("field", ["seed", "num_layers", "rope_theta", "warmup_iters"])
def test_a_number_of_thousands_of_digits_is_refused_in_a_short_sentence(field: str) -> None:
    with pytest.raises(BadArgument, match=f"{field} must be .*, not a number of thousands of digits"):
        ExperimentConfig(**{field: 10**5000})


def test_numbers_come_as_they_do_from_shells_arrays_and_tensors() -> None:
    numpy = pytest.importorskip("numpy")
    config = ExperimentConfig(
        learning_rate="3e-4",
        d_model="512",
        batch_size=numpy.int32(8),
        weight_decay=numpy.float32(0.5),
        seed=numpy.int64(2**62 + 1),
        vocab_size=50257.0,
        num_iterations="1e5",
        max_iters="100_000",
    )
    assert (config.learning_rate, config.d_model, config.batch_size, config.weight_decay) == (3e-4, 512, 8, 0.5)
    assert (config.seed, config.vocab_size, config.num_iterations) == (2**62 + 1, 50257, 100_000)
    assert all(
        type(value) in (int, float)
        for value in (config.seed, config.batch_size, config.weight_decay, config.vocab_size, config.num_iterations)
    )
    assert ExperimentConfig(seed=str(2**62 + 1)).seed == 2**62 + 1


# -- copies -------------------------------------------------------------------------------------------------------


def test_an_ablation_is_a_copy_with_some_fields_changed() -> None:
    base = ExperimentConfig(experiment_name="base", d_model=512, max_iters=100, tags=["v1"], extra={"rope": True})
    small = base.replace(experiment_name="small", d_model=256, num_iterations=50)
    assert (small.name, small.d_model, small.max_iters, small.extra) == ("small", 256, 50, {"rope": True})
    assert (base.name, base.d_model, base.max_iters) == ("base", 512, 100)
    small.tags.append("v2")
    small.extra["rope"] = False
    assert base.tags == ["v1", "baseline"]
    assert base.extra == {"rope": True}


def test_a_copy_has_tags_and_a_name_of_its_own_where_they_were_made_here() -> None:
    base = ExperimentConfig(model_size="17M", dataset="tinystories", tags=["v1"])
    other = base.replace(dataset="openwebtext")
    assert other.tags == ["v1", "17M", "openwebtext", "baseline"]
    assert other.name.startswith("17M_openwebtext_baseline_")
    assert base.replace(d_model=64).name != base.name


def test_a_name_that_was_set_later_is_kept_by_a_copy() -> None:
    config = ExperimentConfig(model_size="17M")
    config.experiment_name = "baseline_tinystories"
    assert config.replace(d_model=64).name == "baseline_tinystories"


def test_a_copy_with_an_unknown_field_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(BadArgument, match="has no 'learning_rat'; did you mean learning_rate"):
        ExperimentConfig().replace(learning_rat=1)


def test_a_dictionary_and_back() -> None:
    config = ExperimentConfig(model_size="17M", learning_rate=3e-4, extra={"ema": 0.99})
    plain = config.to_dict()
    assert "max_learning_rate" not in plain
    assert "seed" not in plain, "what was not said is left out"
    assert plain["ema"] == 0.99
    assert config.to_dict(both_names=True)["max_learning_rate"] == 3e-4
    assert ExperimentConfig.from_dict(plain, unknown="keep") == config
    with pytest.raises(BadArgument, match="has no 'ema'"):
        ExperimentConfig.from_dict(plain)


def test_extra_never_hides_a_field() -> None:
    config = ExperimentConfig(d_model=512, extra={"d_model": "no"})
    assert config.to_dict()["d_model"] == 512


def test_what_another_program_called_extra_is_refused_like_any_value() -> None:
    with pytest.raises(BadArgument, match="extra is a mapping"):
        ExperimentConfig.from_dict({"extra": "none", "heads": 3}, unknown="keep")


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda config: pickle.loads(pickle.dumps(config))])
def test_copied_and_pickled_it_is_equal_and_still_checked(way: Any) -> None:
    config = ExperimentConfig(model_size="17M", max_iters=100, tags=["v1"], extra={"a": [1, 2]})
    other = way(config)
    assert other == config
    assert other.name == config.name
    with pytest.raises(BadArgument):
        other.d_model = -1
    other.num_iterations = 7
    assert (other.max_iters, config.max_iters) == (7, 100)
    assert other.replace(d_model=8).name != config.name, "a name made here is made anew, after a copy too"


# -- files that are whole -----------------------------------------------------------------------------------------

EXAMPLE = """\
# config.yaml
model_size: "17M"
vocab_size: 50257
d_model: 512
num_layers: 8
num_heads: 8
learning_rate: 3e-4   # YAML 1.1 takes this for a text
dataset: "tinystories"
experiment_type: "baseline"
tags: ["my_experiment", "v1"]
"""


def test_a_file_as_people_write_it(tmp_path: Path) -> None:
    config = ExperimentConfig.load(written(tmp_path, EXAMPLE))
    assert config.learning_rate == 3e-4
    assert (config.vocab_size, config.num_layers, config.dataset) == (50257, 8, "tinystories")
    assert config.tags == ["my_experiment", "v1", "17M", "tinystories", "baseline"]
    changed = ExperimentConfig.load(tmp_path / "config.yaml", max_learning_rate=1e-3, seed=1)
    assert (changed.learning_rate, changed.seed) == (1e-3, 1)


@pytest.mark.parametrize("name", ["config.yaml", "config.yml", "config.json", "CONFIG.JSON", "new/folder/config.yaml"])
def test_what_is_saved_is_loaded_again(tmp_path: Path, name: str) -> None:
    config = ExperimentConfig(
        model_size="17M",
        dataset="3e-4",
        learning_rate=3e-4,
        eps=1e-08,
        weight_decay=0.1,
        grad_clip=math.inf,
        beta2=0.999,
        max_iters=100,
        seed=2**63,
        track_memory=False,
        notes="two\nlines: # with signs, and é",
        experiment_name="null",
        tags=["yes", "1e5", "007"],
        extra={"rates": [1e-3, 5e-324, -math.inf], "text": "1e-3", "deep": {"on": None, "0": "0x1f"}},
    )
    config.save(tmp_path / name)
    loaded = ExperimentConfig.load(tmp_path / name)
    assert loaded == config
    assert loaded.extra == config.extra
    assert [path.name for path in (tmp_path / name).parent.iterdir()] == [Path(name).name], "no partial file is left"


@pytest.mark.parametrize("number", [3e-4, 1e-08, 1e16, 1e22, 5e-324, 1.7976931348623157e308, 6e-05, 1.0])
def test_a_saved_number_is_a_number_to_every_yaml_reader(tmp_path: Path, number: float) -> None:
    yaml = pytest.importorskip("yaml")
    path = tmp_path / "config.yaml"
    ExperimentConfig(learning_rate=number, dataset="3e-4", experiment_name="x").save(path)
    # YAML 1.1, as PyYAML reads it; and the core schema of YAML 1.2.2, chapter 10.3.2.
    assert yaml.safe_load(path.read_text())["learning_rate"] == number
    (text,) = re.findall(r"^learning_rate: (.*)$", path.read_text(), re.MULTILINE)
    assert re.fullmatch(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", text)
    assert float(text) == number
    assert "dataset: '3e-4'" in path.read_text(), "and a text is a text to every reader"


@given(
    values=st.fixed_dictionaries(
        {},
        optional={
            "learning_rate": st.floats(min_value=5e-324, allow_infinity=False, exclude_min=False),
            "eps": st.floats(min_value=0, allow_infinity=False),
            "seed": st.integers(-(2**63), 2**64 - 1),
            "d_model": st.integers(1, 2**53),
            "notes": st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=30),
            "dataset": st.text(string.printable, max_size=12),
            "extra": st.dictionaries(
                st.text(string.ascii_letters, min_size=1, max_size=8).map(lambda name: f"my_{name}"),
                st.recursive(
                    st.none()
                    | st.booleans()
                    | st.integers(-(2**62), 2**62)
                    | st.floats(allow_nan=False)
                    | st.text(string.printable, max_size=8),
                    lambda inner: st.lists(inner, max_size=3),
                    max_leaves=5,
                ),
                max_size=3,
            ),
        },
    )
)
def test_whatever_is_saved_is_loaded_again(tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]) -> None:
    config = ExperimentConfig(experiment_name="x", **values)
    folder = tmp_path_factory.mktemp("configs")
    for name in ("config.yaml", "config.json"):
        config.save(folder / name)
        assert ExperimentConfig.load(folder / name) == config


def test_small_numbers_within_extra_are_numbers_too(tmp_path: Path) -> None:
    config = ExperimentConfig.load(
        written(tmp_path, "extra:\n  z_loss: 1e-4\n  rates: [3e-4, 1_0e2]\n  name: '3e-4'\n  a: 1e\n")
    )
    assert config.extra == {"z_loss": 1e-4, "rates": [3e-4, 1000.0], "name": "3e-4", "a": "1e"}


def test_empty_files_anchors_and_a_byte_order_mark_are_fine(tmp_path: Path) -> None:
    assert ExperimentConfig.load(written(tmp_path, "")).experiment_type == "baseline"
    assert ExperimentConfig.load(written(tmp_path, "# nothing yet\n")).learning_rate is None
    assert ExperimentConfig.load(written(tmp_path, "seed:\nd_model: ~\n")).seed is None
    assert ExperimentConfig.load(written(tmp_path, b"\xef\xbb\xbfseed: 1\n")).seed == 1
    assert ExperimentConfig.load(written(tmp_path, b'\xef\xbb\xbf{"seed": 1}', "bom.json")).seed == 1
    merged = "extra: &base {d_model: 1}\n<<: {d_model: 64, seed: 3}\nseed: 4\n"
    assert ExperimentConfig.load(written(tmp_path, merged)).to_dict()["seed"] == 4
    assert ExperimentConfig.load(written(tmp_path, '{\n\t"seed": 1,\n\t"d_model": 64\n}', "tabs.json")).d_model == 64


# -- files that are wrong -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("d_model: 512\nlearning_rat: 1e-3\n", 2, "no field 'learning_rat'; did you mean learning_rate"),
        ("seed: 1\n\n# why not\nzzz: 1\n", 4, "no field 'zzz' (there are experiment_name, model_size"),
        ("d_model: 512\nlearning_rate: -3e-4\n", 2, "learning_rate must be above 0, not '-3e-4'"),
        ("learning_rate: fast\n", 1, "learning_rate is a number above 0, not 'fast'"),
        ("seed: 1\nd_model: [512]\n", 2, "d_model is a whole number, 1 or more, not [512]"),
        ("d_model: 512.5\n", 1, "d_model is a whole number"),
        ("beta1: 1\n", 1, "beta1 must be from 0 to below 1"),
        ("seed: 1\ntrack_memory: 'no way'\n", 2, "track_memory is true or false"),
        ("experiment_name: 2026-01-01\n", 1, "experiment_name is a text"),
        ("seed: 1\nseed: 2\n", 2, "seed is given twice, first in line 1"),
        ("max_iters: 1\nseed: 2\nnum_iterations: 2\n", 1, "num_iterations and max_iters are two names of one value"),
        ("seed: 1\nd_model: [1, 2\n", 3, "this is no YAML"),
        ("seed: 1\n\td_model: 2\n", 2, "this is no YAML (found character '\\t'"),
        ("seed: 1\n d_model: 2\n", 2, "this is no YAML (mapping values are not allowed here)"),
        ("seed: 1\nnotes: \x07\n", 2, "this is no YAML (special characters are not allowed)"),
        ("seed: 1\n---\nseed: 2\n", 2, "this is no YAML"),
        ("seed: *nowhere\n", 1, "this is no YAML (found undefined alias 'nowhere')"),
        ("seed: !!python/object/apply:os.getcwd []\n", 1, "this is no YAML (could not determine a constructor"),
        ("notes: 2026-13-45\n", 1, "this is no YAML (month must be in 1..12)"),
        ("- seed: 1\n- d_model: 2\n", 1, "a configuration is a mapping of fields to values"),
        ("just a sentence\n", 1, "a configuration is a mapping of fields to values"),
        ("? [1, 2]\n: 3\n", 1, "this is no YAML (found unhashable key)"),
        ("extra: 3\n", 1, "extra is a mapping"),
        ("seed: 1\nextra: {1: 2}\n", 2, "extra is a mapping of names"),
        ("[" * 5000, 1, "nested too deep"),
    ],
)
def test_a_wrong_file_is_answered_with_its_line_and_what_is_allowed(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    path = written(tmp_path, text)
    message = refusal(path)
    assert message.startswith(f"{path}:{line}: ")
    assert words in message


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('{\n  "seed": 1,\n  "d_modle": 2\n}', 3, "no field 'd_modle'; did you mean d_model"),
        ('{"extra": {\n"seed": -1},\n"seed": "x"}', 3, "seed is a whole number"),
        ('{\n\t"seed": 1,\n\t"warmup_iters": -1\n}', 3, "warmup_iters must be 0 or more"),
        ('{\n"seed": 1,\n"seed": 2}', 3, "seed is given twice, first in line 2"),
        ('{\n"seed": 1,\n}', 3, "this is no JSON"),
        ('{"seed": 1', 1, "this is no JSON"),
        ('{"seed": 1}\n{"seed": 2}', 2, "this is no JSON (Extra data)"),
        ('{"seed": ' + "9" * 5000 + "}", 1, "this is no JSON"),
        ("[]", 1, "a configuration is a mapping"),
        ("", 1, "this is no JSON"),
        ("[" * 100_000, 1, "nested too deep"),
    ],
)
def test_so_is_wrong_json(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = written(tmp_path, text, "config.json")
    message = refusal(path)
    assert message.startswith(f"{path}:{line}: ")
    assert words in message


def test_a_file_in_another_encoding_is_answered_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, "seed: 1\nnotes: né\n".encode("latin-1"))
    assert refusal(path).startswith(f"{path}:2: this is no UTF-8 text")
    assert "save it as UTF-8" in refusal(written(tmp_path, "seed: 1".encode("utf-16")))


def test_what_is_no_file_is_said_to_be_none(tmp_path: Path) -> None:
    assert "there is no configuration file" in refusal(tmp_path / "missing.yaml")
    (tmp_path / "folder.yaml").mkdir()
    assert "folder.yaml cannot be read (Is a directory)" in refusal(tmp_path / "folder.yaml")
    assert "ends in .yaml, .yml or .json" in refusal(tmp_path / "config.toml")
    with pytest.raises(BadArgument, match=r"ends in \.yaml, \.yml or \.json"):
        ExperimentConfig().save(tmp_path / "config.ini")


@pytest.mark.parametrize("name", ["config.yaml", "config.json"])
def test_what_a_file_cannot_hold_is_refused_and_the_file_before_it_stays(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    ExperimentConfig(seed=1).save(path)
    with pytest.raises(BadArgument, match="extra has what a file cannot hold"):
        ExperimentConfig(seed=2, extra={"model": object()}).save(path)
    assert ExperimentConfig.load(path).seed == 1
    json.dumps(ExperimentConfig.load(path).to_dict())


def test_any_bytes_either_load_or_are_refused_in_a_sentence(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("bytes")

    @given(contents=st.binary(max_size=60) | st.text('{}[]:,"\n\t -#&*!|>0123eabn', max_size=60).map(str.encode))
    def load(contents: bytes) -> None:
        for name in ("config.yaml", "config.json"):
            try:
                ExperimentConfig.load(written(folder, contents, name))
            except BadArgument as error:
                assert name in str(error)

    load()
