from __future__ import annotations

from pathlib import Path

import pytest
import starts
import torch
from cells import PLACES
from safetensors.torch import load_file
from starts import COMMITTED, load, model_text, prepare_start, settings, weights_path

from netadapt.adaptation.preparation import build_model, build_task, structure_of
from netadapt.errors import Interrupted
from netadapt.models import resolve_model
from netadapt.network import trace


def never():
    return False


def test_a_start_is_prepared_once_and_is_a_model_like_any_other(small, monkeypatch):
    setup = small.setups / "small.toml"
    kept = prepare_start(setup, small.starts, never)
    written = kept.stat().st_mtime_ns
    assert prepare_start(setup, small.starts, never) == kept
    assert kept.stat().st_mtime_ns == written
    assert [path.name for path in small.starts.iterdir()] == [kept.name]
    model, example_inputs = resolve_model(model_text(setup, small.starts))
    fresh, _ = build_model(settings(setup, 0))
    assert not torch.equal(model[0].weight, fresh[0].weight)
    assert example_inputs.shape == (1, 3, 16, 16)


def test_recipes_have_starts_of_their_own(small):
    setup = small.setups / "small.toml"
    names = {weights_path(setup, small.starts).name}
    setup.write_text(setup.read_text().replace("lr = 0.05", "lr = 0.04"))
    names.add(weights_path(setup, small.starts).name)
    setup.write_text(setup.read_text().replace("networks = 12", "networks = 13"))  # nothing that a start depends on
    setup.write_text(setup.read_text().replace("selection = 4", "selection = 4\ndistillation = 0.5"))  # nor this
    names.add(weights_path(setup, small.starts).name)
    assert len(names) == 2


def test_a_committed_start_is_taken_as_it_is(small, tmp_path, monkeypatch):
    setup = small.setups / "small.toml"
    made = prepare_start(setup, small.starts, never)
    committed = tmp_path / "committed" / made.name
    committed.parent.mkdir()
    text = model_text(setup, small.starts)
    made.rename(committed)
    monkeypatch.setattr("starts.COMMITTED", committed.parent)
    assert prepare_start(setup, small.starts, never) == committed
    assert not [*small.starts.iterdir()]
    assert text == model_text(setup, small.starts), (
        "a run that has begun goes on where weights were committed meanwhile"
    )
    model, _ = load(str(setup), str(small.starts), committed.name)
    torch.testing.assert_close(model[0].weight.half(), load_file(committed)["0.weight"])


def test_every_committed_start_is_of_a_set_up_as_it_stands(monkeypatch):
    monkeypatch.setenv("NETADAPT_DATA", "/data")
    names = {weights_path(setup, Path()).name for setup in PLACES.setups.glob("*.toml")}
    assert {path.name for path in COMMITTED.glob("*.safetensors")} <= names


def test_a_start_keeps_its_filters_in_half_precision_and_its_statistics_whole(small):
    """Rounded once, when it is made: what is committed must be what every cell starts from."""
    kept = load_file(prepare_start(small.setups / "small.toml", small.starts, never))
    assert {kept["0.weight"].dtype, kept["8.weight"].dtype} == {torch.float16}
    assert kept["1.running_var"].dtype == torch.float32
    assert kept["1.num_batches_tracked"].dtype == torch.int64


def test_no_seed_selects_on_what_the_start_was_trained_on(small, monkeypatch):
    seen = []
    told = starts.start_network
    monkeypatch.setattr("starts.start_network", lambda *given: (seen.append(given[3].train_indices), told(*given))[1])
    prepare_start(small.setups / "small.toml", small.starts, never)
    for seed in (0, 1):
        selection = build_task(settings(small.setups / "small.toml", seed), None).selection_indices
        assert not torch.isin(selection, seen[0]).any()


def test_a_stopped_preparation_goes_on(small):
    setup = small.setups / "small.toml"
    setup.write_text(setup.read_text().replace("epochs = 1, lr = 0.05", "epochs = 2, lr = 0.05"))
    asked = iter(range(1000))
    with pytest.raises(Interrupted):
        prepare_start(setup, small.starts, lambda: next(asked) > 22)  # 21 batches are an epoch
    assert not weights_path(setup, small.starts).exists()
    name = prepare_start(setup, small.starts, never).name
    prepare_start(setup, small.starts / "whole", never)
    resumed, whole = (load(str(setup), str(folder), name)[0] for folder in (small.starts, small.starts / "whole"))
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0)


def test_a_start_has_the_structure_that_the_set_up_would_have_without_the_detour(small):
    """Else the cells would not share the estimator's samples with each other and with other runs."""
    setup = small.setups / "small.toml"
    source = 'source = "mobilenet_v1?width=0.125&resolution=32&batch_norm=0"\nclasses = 10\nunfold_batch_norm = true'
    lines = [
        source if line.startswith("source = ") and "model.py" in line else line
        for line in setup.read_text().splitlines()
    ]
    setup.write_text(
        "\n".join(lines).replace("resolution = 16", "resolution = 32").replace("epochs = 1,", "images = 64,")
    )
    config = settings(setup, 0)
    model, example_inputs = build_model(config)
    direct = trace(structure_of(config, model, example_inputs, None), example_inputs, prove=False)
    prepare_start(setup, small.starts, never)
    start = trace(*resolve_model(model_text(setup, small.starts)), prove=False)
    assert start.structure_hash() == direct.structure_hash()
    assert start.widths == direct.widths
