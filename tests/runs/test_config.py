"""Reading, checking, comparing and writing a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netadapt.errors import ConfigError
from netadapt.runs.config import differences, fingerprint, flat, load_config, make_config, to_toml
from netadapt.runs.template import template

SMALL = '[model]\nsource = "resnet20"\n[budget]\nlatency = "50%"\n[task]\nsource = "digits"\n'


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "netadapt.toml"
    path.write_text(text)
    return path


def test_what_is_not_given_has_its_default(tmp_path):
    config = load_config(written(tmp_path, SMALL))
    assert config.search.decay == 0.96
    assert config.platform.name == "local/onnxruntime?threads=1"
    assert config.budget.limits() == {"latency": "50%"}
    assert config.training.short_term.images == 2000
    assert config.model.first_tune is None


def test_set_reads_toml_values_and_falls_back_to_text(tmp_path):
    overrides = [
        "training.long_term.lr=1e-3",
        'model.keep=["stem*"]',
        "platform.name=simulated",
        "report.uniform=false",
    ]
    config = load_config(written(tmp_path, SMALL), overrides)
    assert config.training.long_term.lr == 1e-3
    assert config.model.keep == ("stem*",)
    assert config.platform.name == "simulated"
    assert not config.report.uniform


@pytest.mark.parametrize("override", ["search.decay", "=1", "search.=1", "model.source.x=1"])
def test_an_unreadable_set_is_refused(tmp_path, override):
    with pytest.raises(ConfigError, match="--set"):
        load_config(written(tmp_path, SMALL), [override])


def test_images_given_replaces_the_default_epochs(tmp_path):
    tune = load_config(written(tmp_path, SMALL), ["training.long_term.images=500"]).training.long_term
    assert (tune.images, tune.epochs) == (500, None)


def test_environment_variables_are_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("NETADAPT_DATA", "/data")
    text = SMALL.replace('"digits"', '"parquet:${NETADAPT_DATA}/tiny"')
    assert load_config(written(tmp_path, text)).task.source == "parquet:/data/tiny"


def test_all_problems_are_named_at_once_with_line_value_and_help(tmp_path, monkeypatch):
    monkeypatch.delenv("NETADAPT_DATA", raising=False)
    text = """\
[model]
source = "resnet20"
keeep = []
[budget]
latency = "8"
[task]
source = "parquet:${NETADAPT_DATA}/x"
selection = -1
batch_size = "64"
[search]
decay = 2.0
mode = "fats"
first_step = "3"
[training]
lr = 0.1
[training.short_term]
images = 3
epochs = 1.0
"""
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, text))
    message = str(caught.value)
    for expected in [
        "10 problems in",
        'toml:3: model.keeep is not a known key (did you mean "keep"?)',
        'toml:5: budget.latency = "8": "8" has no unit. 8 what?',
        "toml:7: task.source",
        "NETADAPT_DATA is not set",
        "toml:8: task.selection = -1: must be greater than 0",
        'toml:9: task.batch_size = "64": must be a whole number',
        "toml:11: search.decay = 2.0: must be less than or equal to 1",
        "toml:12: search.mode = \"fats\": must be 'fast' or 'faithful'",
        'toml:13: search.first_step = "3": cannot be read as a step',
        "toml:15: training.lr is not a known key (did you mean training.short_term.lr or training.long_term.lr?)",
        "toml:16: training.short_term gives both images and epochs",
    ]:
        assert expected in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "model is missing"),
        (SMALL.replace('latency = "50%"', ""), "budget gives no limit"),
        (SMALL.replace('"50%"', '"50%"\nlatency_of = "resnet20"'), "both latency and latency_of"),
        (SMALL.replace('"50%"', '"40 MMAC"'), "has a unit of macs"),
        (SMALL.replace('"resnet20"', '""'), "must not be empty"),
        (SMALL + "[search]\ndecay = nan\n", "must be a finite number"),
        (SMALL + "schema = 2\n", "schema"),
        ("schema = 2\n" + SMALL, "schema = 2: must be 1"),
        ("search = 3\n" + SMALL, "search = 3: must be a table"),
        (SMALL + "[search\n", "not valid TOML"),
    ],
)
def test_each_problem_has_its_sentence(tmp_path, text, expected):
    with pytest.raises(ConfigError, match=r"netadapt\.toml") as caught:
        load_config(written(tmp_path, text))
    assert expected in str(caught.value)


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigError, match="netadapt init"):
        load_config(tmp_path / "none.toml")


def test_make_config_takes_what_python_gives_and_ignores_none():
    tables = {
        "model": {"source": "resnet20", "classes": None},
        "budget": {"latency": "8 ms"},
        "task": {"source": "digits"},
    }
    assert make_config(tables).model.classes is None
    assert tables["model"] == {"source": "resnet20", "classes": None}


def test_the_written_form_reads_back_the_same(tmp_path):
    config = load_config(
        written(tmp_path, SMALL),
        ["model.first_tune.epochs=2.5", 'model.keep=["a b", "é\\""]', "task.mean=[0.1, 0.5, 1.0]"],
    )
    assert load_config(written(tmp_path, to_toml(config))) == config


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: "${" not in text))
def test_any_text_survives_writing(text):
    import tomllib

    config = make_config(
        {"model": {"source": text, "keep": [text]}, "budget": {"latency": "8 ms"}, "task": {"source": "digits"}}
    )
    assert make_config(tomllib.loads(to_toml(config))) == config


def test_differences_name_key_old_and_new_but_not_what_changes_no_result(tmp_path):
    old = load_config(written(tmp_path, SMALL))
    new = load_config(
        written(tmp_path, SMALL),
        ["search.decay=0.9", "run.folder=elsewhere", "report.uniform=false", "model.classes=5"],
    )
    assert differences(old, new) == ["search.decay: 0.96 -> 0.9", "model.classes: null -> 5"]
    assert differences(old, old) == []
    assert fingerprint(old) != fingerprint(new)
    assert fingerprint(old) == fingerprint(load_config(written(tmp_path, SMALL), ["run.folder=elsewhere"]))


def test_the_template_is_a_valid_configuration_with_the_defaults(tmp_path):
    config = load_config(written(tmp_path, template()))
    bare = load_config(written(tmp_path, SMALL))
    assert {key: value for key, value in flat(config).items() if key != "model.source"} == {
        key: value for key, value in flat(bare).items() if key != "model.source"
    }
