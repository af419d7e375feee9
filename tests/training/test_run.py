"""Runs from end to end: the folder, loading it for use, and folders that are not what they should be."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import bayesbinn as bb
from bayesbinn.data import load_data
from bayesbinn.errors import UserError
from bayesbinn.files import HOST
from bayesbinn.locks import LOCK
from bayesbinn.training import evaluate, load_run, train
from bayesbinn.training.checkpoint import FILE, load_checkpoint, save_checkpoint
from bayesbinn.training.config import make_config, read_toml
from bayesbinn.training.distributed import World
from bayesbinn.training.methods import METHODS
from bayesbinn.training.start import check_new, check_world, find_device
from tests.runs import TINY, blobs, blobs_file, contents, final_state


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return blobs_file(tmp_path_factory.mktemp("data") / "set.npz")


@pytest.fixture
def run(tmp_path, data):
    train({**TINY, "data": data, "epochs": 2}, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("method", METHODS)
def test_a_run_holds_what_it_promises(tmp_path, data, method):
    run = tmp_path / "deep" / "run"
    result = train({**TINY, "data": data, "epochs": 2, "method": method}, run)
    assert {p.name for p in run.iterdir()} == {
        *("config.toml", FILE, "metrics.jsonl", "evaluation.json", "report.html")
    }
    stored = json.loads((run / "evaluation.json").read_text())
    assert {**result, "environment": stored["environment"]} == stored
    config = make_config(read_toml(run / "config.toml"))
    assert config == make_config({**TINY, "data": data, "epochs": 2, "method": method})

    net, loaded, description = load_run(run)
    assert loaded == config
    assert (description["input_shape"], description["num_outputs"]) == ((8,), 3)
    assert not net.training
    again = evaluate(net, load_data(data).test, 4)
    assert {k: v for k, v in result.items() if k != "train_seconds"} == again


def test_a_loaded_network_takes_inputs_in_the_units_of_the_file(tmp_path):
    arrays = blobs()
    scaled = {k: (v * 1000 + 5000 if k.startswith("x") else v) for k, v in arrays.items()}
    probs = []
    for name, content in (("plain", arrays), ("scaled", scaled)):
        np.savez(tmp_path / f"{name}.npz", **content)
        train({**TINY, "data": f"npz:{tmp_path}/{name}.npz", "epochs": 2}, tmp_path / name)
        probs.append(bb.predict(load_run(tmp_path / name)[0], torch.tensor(content["x_test"]), 0).probs)
    torch.testing.assert_close(*probs, atol=0.02, rtol=0)


def test_resuming_a_finished_run_changes_nothing(run, data):
    before = contents(run)
    train({}, run, resume=True)
    after = contents(run)
    assert {k for k in before if before[k] != after[k]} <= {"evaluation.json"}  # names the command of the process


def test_resume_starts_a_run_where_there_is_none(tmp_path, data):
    train({**TINY, "data": data, "epochs": 1}, tmp_path / "new", resume=True)
    assert (tmp_path / "new" / "evaluation.json").exists()


def test_resume_after_a_death_at_the_very_start(tmp_path, data):
    run = tmp_path / "run"
    run.mkdir()
    (run / LOCK).write_text(f"{HOST}-77")
    (run / f".config.toml.{HOST}-77.new").write_text("epo")
    train({**TINY, "data": data, "epochs": 1}, run, resume=True)
    assert (run / "evaluation.json").exists()
    assert not any(path.name.startswith(".") for path in run.iterdir())


def test_resume_with_other_settings(run, data):
    before = contents(run)
    for settings, message in (
        ({"lr": 0.5}, r"run was started with lr = .*, not 0\.5: resume it unchanged"),
        ({"data": "digits"}, "was started with data = 'npz:.*', not 'digits'"),
        ({"epochs": 3}, "was started with epochs = 2, not 3"),
    ):
        with pytest.raises(UserError, match=message):
            train(settings, run, resume=True)
    train({"epochs": 2, "width": 16}, run, resume=True)
    assert contents(run).keys() == before.keys()


def test_resume_with_data_that_have_changed(tmp_path):
    name = blobs_file(tmp_path / "set.npz")
    train({**TINY, "data": name, "epochs": 1}, tmp_path / "run")
    for options, message in (
        ({"train": 99}, "num_train is 100 there, 99 here; use the data"),
        ({"shape": (9,)}, r"input_shape is \[8\] there, \[9\] here"),
        ({"classes": 4}, "num_outputs is 3 there, 4 here"),
    ):
        blobs_file(tmp_path / "set.npz", **options)
        with pytest.raises(UserError, match=rf"checkpoint of .*run is of another run: {message}"):
            train({}, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"method": "ste"}, "method is 'ste' there, 'bayesbinn' here"),
        ({"model": "vgg-small"}, "model is 'vgg-small' there, 'mlp' here"),
        ({"width": 17}, r"is of another network: 3\.natural is \(17, 64\) there, \(16, 64\) here"),
        ({"depth": 2}, r"is of another network: .* here; use the settings"),
        ({"output_scale": False}, "is of another network: .* is nothing there"),
    ],
)
def test_checkpoint_of_another_run(tmp_path, setting, message):
    data = blobs_file(tmp_path / "set.npz", shape=(8, 8))
    settings = {**TINY, "data": data, "epochs": 1, "width_multiplier": 0.02}
    train(settings, tmp_path / "run")
    train(settings | setting, tmp_path / "other")
    shutil.copy(tmp_path / "other" / FILE, tmp_path / "run" / FILE)
    before = contents(tmp_path / "run")
    with pytest.raises(UserError, match=message):
        load_run(tmp_path / "run")
    ((name, value),) = setting.items()
    with pytest.raises(UserError, match=rf"config\.toml has {name} = .*, training began with {value!r}: set it back"):
        train({}, tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == before


def test_a_damaged_checkpoint_is_neither_used_nor_replaced(run):
    file = run / FILE
    good = file.read_bytes()
    for bad in (good[:-9], good[:-9] + bytes(9)):
        file.write_bytes(bad)
        before = contents(run)
        for use in (lambda: load_run(run), lambda: train({}, run, resume=True)):
            with pytest.raises(UserError, match=r"checkpoint.safetensors is damaged"):
                use()
        assert contents(run) == before


@pytest.mark.parametrize("lost", ["description", "progress", "optimizer", "threads"])
def test_a_checkpoint_that_lacks_a_part(run, lost):
    model, training, state = load_checkpoint(run)
    del state[lost]
    save_checkpoint(run, model, training, state)
    with pytest.raises(UserError, match=rf"is damaged \(lacks '{lost}'\): restore it"):
        train({}, run, resume=True)


def test_what_is_no_run(tmp_path, run):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(UserError, match="holds no run: train one with bayesbinn train --output"):
            load_run(path)
    with pytest.raises(UserError, match="is a file, and a run is a folder"):
        load_run(Path(__file__))
    (run / FILE).unlink()
    with pytest.raises(UserError, match=r"holds no checkpoint yet: train it with .* --resume"):
        load_run(run)


def test_output_folders(tmp_path, run):
    check_new(tmp_path / "a" / "b" / "c")
    (tmp_path / "empty").mkdir()
    check_new(tmp_path / "empty")
    with pytest.raises(UserError, match="already holds a run: continue it with --resume, or choose another --output"):
        check_new(run)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("important")
    for path in (tmp_path / "foreign", tmp_path / "foreign" / "thesis.tex"):
        with pytest.raises(UserError, match="exists and is not an empty folder: choose another --output"):
            check_new(path)


def test_nothing_is_written_when_the_settings_do_not_fit_the_data(tmp_path, data):
    for settings, message in (
        ({"augment": "crop-flip"}, r"augment 'crop-flip' needs images, .* has inputs of shape \(8,\)"),
        ({"model": "resnet18"}, "model 'resnet18' needs images"),
        ({"clip": 1.0}, "method 'bayesbinn' takes no clip"),
        ({"method": "bop!"}, "unknown method 'bop!'"),
        ({"device": "abacus"}, "device 'abacus' is not available"),
        ({"validation": 0.9, "batch_size": 11}, "batch_size 11 exceeds the 10 training examples"),
    ):
        with pytest.raises(UserError, match=message):
            train({**TINY, "data": data, "epochs": 1, **settings}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_devices():
    assert find_device("cpu") == torch.device("cpu")
    for name in ("abacus", "meta", "cuda:99", "", "cpu:x"):
        with pytest.raises(UserError, match=rf"device '{name}' is not available \(.+\): use cpu, cuda or mps"):
            find_device(name)


def test_evaluation_of_a_network_that_is_not_finite(run, data):
    net, _, _ = load_run(run)
    with torch.no_grad():
        list(net.parameters())[-1].fill_(float("nan"))
    with pytest.raises(UserError, match="the network's mode prediction is not finite"):
        evaluate(net, load_data(data).test)


def test_evaluation_without_samples(run, data):
    net, _, _ = load_run(run)
    result = evaluate(net, load_data(data).test, 0)
    assert result["mean"] is None
    assert result["num_samples"] == 0
    assert result["posterior"]["num_weights"] == 16 * 8 + 3 * 16
    summary = dataclasses.asdict(bb.posterior_summary(net).total)
    assert result["posterior"].items() <= summary.items()


def test_settings_that_several_processes_cannot_share():
    for settings, world, message in (
        (
            {"batch_size": 32},
            World(0, 3),
            "batch_size 32 is divided among 3 processes, .*: take a multiple of 3 from 6 on",
        ),
        (
            {"batch_size": 2},
            World(0, 2),
            "batch_size 2 is divided among 2 processes, .*: take a multiple of 2 from 4 on",
        ),
        (
            {"estimator": "disarm"},
            World(0, 2, "full"),
            "estimator 'disarm' draws whole networks .*: leave --sharding full out",
        ),
    ):
        with pytest.raises(UserError, match=message):
            check_world(make_config(settings), world)
    check_world(make_config({"batch_size": 33}), World())


# --- data and networks in memory ---


def test_fit_is_train(tmp_path, data):
    settings = {**TINY, "epochs": 2}
    trained = train({**settings, "data": data}, tmp_path / "train")
    fitted = bb.fit("mlp", data, output=tmp_path / "fit", **settings)
    same = {k: v for k, v in fitted.evaluation.items() if k != "train_seconds"}
    assert same == {k: v for k, v in trained.items() if k != "train_seconds"}
    assert final_state(tmp_path / "fit") == final_state(tmp_path / "train")
    assert not fitted.net.training
    assert fitted.config == load_run(tmp_path / "fit")[1]


def test_fit_trains_an_own_network_and_leaves_nothing_behind(tmp_path, data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    fitted = bb.fit(own, data, epochs=20, batch_size=32, samples=4, real_ends=True, method="float")
    assert isinstance(own[0], torch.nn.Linear)
    fitted = bb.fit(own, data, epochs=20, batch_size=32, samples=4)
    assert [type(layer) for layer in own][::3] == [bb.BinaryLinear] * 2
    assert fitted.evaluation["mode"]["accuracy"] >= 0.8
    test = load_data(data).test
    labels = bb.predict(fitted.net, test.x, 0).labels
    assert float((labels == test.y).double().mean()) == pytest.approx(fitted.evaluation["mode"]["accuracy"])
    assert contents(tmp_path) == {}


def test_fit_of_an_own_network_resumes(tmp_path, data):
    def own():
        torch.manual_seed(5)
        return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16), torch.nn.Linear(16, 3))

    first = bb.fit(own(), data, output=tmp_path / "run", epochs=2, batch_size=32, samples=4)
    again = bb.fit(own(), data, output=tmp_path / "run", resume=True)
    assert {**first.evaluation, "train_seconds": 0} == {**again.evaluation, "train_seconds": 0}
    with pytest.raises(UserError, match="already holds a run"):
        bb.fit(own(), data, output=tmp_path / "run")
    with pytest.raises(UserError, match=r"model 'own' is a network of your own code, .*: give it to bayesbinn\.fit"):
        load_run(tmp_path / "run")


def test_fit_refuses_what_train_refuses(data):
    with pytest.raises(UserError, match="unknown setting 'epoch'"):
        bb.fit("mlp", data, epoch=3)
    with pytest.raises(UserError, match="unknown model 'mlpp'"):
        bb.fit("mlpp", data)
    with pytest.raises(UserError, match="matches none of the layers"):
        bb.fit(torch.nn.Flatten(), data)
