"""`export`, `bench` and `inspect FILE.bbnn`."""

import json
import re
import shutil

import numpy as np
import pytest
import torch

from bayesbinn import predict
from bayesbinn.data import load_data, read_inputs
from bayesbinn.metrics import nll
from bayesbinn.runtime import load
from bayesbinn.training import load_run, train
from tests.runs import TINY, contents


def test_exported_runs_predict_the_same(cli, folder, tmp_path):
    target = tmp_path / "net.bbnn"
    done = cli("export", folder / "images", "--output", target, "--samples", 3, "--activations", "int16")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"wrote {target}\n"
    net, _, description = load_run(folder / "images")
    x, _ = read_inputs(folder / "x.npy", description["input_shape"])
    packed = load(target).predict(x.float().numpy())
    assert np.allclose(packed, predict(net, x.float(), 3, seed=0).probs.detach().numpy(), atol=1e-3)
    shown = json.loads(cli("inspect", target, "--json").stdout)
    assert shown["total"]["num_bytes"] == target.stat().st_size == sum(row["num_bytes"] for row in shown["rows"])
    assert "samples" in cli("inspect", target).stdout


@pytest.mark.parametrize("samples", [0, 4])
def test_a_file_at_its_temperature_fits_what_was_held_out(cli, folder, tmp_path, samples):
    train({**TINY, "epochs": 8, "data": f"npz:{folder}/images.npz", "validation": 0.4}, tmp_path / "run")
    draws = ("--samples", samples) if samples else ()
    for options, name in (((), "plain"), (("--scale",), "scaled")):
        done = cli("export", tmp_path / "run", "--output", tmp_path / f"{name}.bbnn", *draws, *options)
        assert done.exit_code == 0, done.stderr
    temperature = float(
        re.search(r"note: logits are divided by (\S+): on \d+ held-out", " ".join(done.stderr.split()))[1]
    )
    held_out = load_data(f"npz:{folder}/images.npz", 0.4).validation
    x, nlls = held_out.x.float().numpy(), {}
    for name in ("plain", "scaled"):
        nlls[name] = nll(torch.from_numpy(load(tmp_path / f"{name}.bbnn").predict(x)), held_out.y)
    assert nlls["scaled"] < nlls["plain"]
    plain, scaled = (load(tmp_path / f"{name}.bbnn").run(x, min(samples, 1)) for name in ("plain", "scaled"))
    assert np.allclose(plain / temperature, scaled, rtol=2e-3, atol=1e-2)


def test_snapshots_without_a_posterior_have_a_temperature_too(cli, folder, tmp_path):
    settings = {**TINY, "epochs": 4, "data": f"npz:{folder}/images.npz", "validation": 0.4, "method": "ste", "modes": 2}
    train(settings, tmp_path / "run")
    done = cli("export", tmp_path / "run", "--output", tmp_path / "x.bbnn", "--samples", 2, "--scale")
    assert done.exit_code == 0, done.stderr
    assert "the NLL of the mean of 2 networks is" in done.stderr
    assert load(tmp_path / "x.bbnn").num_samples == 2


def test_no_temperature_without_held_out_examples(cli, folder, tmp_path):
    done = cli("export", folder / "images", "--scale", "--output", tmp_path / "x.bbnn")
    assert done.exit_code == 2
    assert "--scale needs examples that" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["c", "onnx", "qonnx"])
def test_other_formats(cli, folder, tmp_path, kind):
    if kind != "c":
        pytest.importorskip("onnx")
    target = tmp_path / kind
    assert cli("export", folder / "images", "--format", kind, "--output", target).exit_code == 0
    assert (target / "net.c").exists() if kind == "c" else target.stat().st_size > 0


def test_a_page_knows_what_its_run_knows(cli, folder, tmp_path):
    target = tmp_path / "page"
    done = cli("export", folder / "images", "--format", "web", "--output", target)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"wrote {target / 'index.html'}\n"
    page = (target / "index.html").read_text()
    about = json.loads(page.split('id="about">')[1].split("</script>")[0])
    assert about["classes"] == list(map(str, load_run(folder / "images")[2]["classes"]))
    assert about["unseen"] > 0
    assert "Learned from" in dict(about["facts"])
    assert load(target / "network.bbnn").num_samples == 8
    again = cli("export", target / "network.bbnn", "--format", "web", "--output", tmp_path / "bare")
    assert "never says “never seen this”" in again.stderr
    assert again.exit_code == 0
    quiet = cli("export", target / "network.bbnn", "--format", "web", "--output", tmp_path / "bare", "-q")
    assert quiet.stderr == ""
    refused = cli("export", target / "network.bbnn", "--format", "web", "--samples", 3)
    assert refused.exit_code == 2
    assert "packed already" in refused.stderr


def test_a_page_of_a_table_says_what_its_form_takes(cli, tmp_path):
    rows = "".join(f"{'red' if i % 2 else 'white'},{i % 7},{'good' if i % 2 else 'poor'}\n" for i in range(60))
    (tmp_path / "wine.csv").write_text("colour,acid,grade\n" + rows)
    train = ("train", f"csv:{tmp_path / 'wine.csv'}", "--width", 8, "--epochs", 1, "--threads", 1, "--samples", 2)
    for target, code, says in (
        ("grade", 0, "not the table's own"),
        ("acid", 2, "predicts a number, a page shows classes"),
    ):
        options = ("--target", target, "--output", tmp_path / target, *(("--task", "regression") if code else ()))
        done = cli(*train, *options)
        assert done.exit_code == 0, done.stderr
        done = cli("export", tmp_path / target, "--format", "web")
        assert done.exit_code == code, done.stderr
        assert says in done.stderr
    page = (tmp_path / "grade-web" / "index.html").read_text()
    about = json.loads(page.split('id="about">')[1].split("</script>")[0])
    assert about["prepared"] is True
    assert about["features"] == ["colour = red", "colour = white", "acid"]
    assert about["classes"] == ["good", "poor"]


def test_a_microcontroller_has_a_budget(cli, folder, tmp_path):
    export = ("export", folder / "images", "--format", "c", "--output", tmp_path / "c")
    done = cli(*export, "--target", "cortex-m4", "--ram", "20K", "--flash", "1M")
    assert done.exit_code == 0, done.stderr
    assert "bytes of RAM" in done.stderr
    assert "of code on cortex-m4" in done.stderr
    assert "CC = arm-none-eabi-gcc" in (tmp_path / "c" / "Makefile").read_text()
    assert cli("export", folder / "images", "--format", "c", "--output", tmp_path / "a", "--arduino").exit_code == 0
    assert (tmp_path / "a" / "library.properties").exists()
    for options, says in (
        (("--ram", "16"), "bytes of ram, 16 are allowed"),
        (("--ram", "2 cups"), "is no number of bytes, such as 20000 or 20K"),
        (("--flash", "64K"), "--flash needs --target"),
        (("--target", "cortex-m4", "--flash", "1K"), "bytes of flash, 1024 are allowed"),
    ):
        refused = cli(*export, *options)
        assert refused.exit_code == 2
        assert says in refused.stderr
    refused = cli("export", folder / "images", "--ram", "1K")
    assert refused.exit_code == 2
    assert "--ram is for c, not for bbnn" in refused.stderr


def test_bench(cli, folder):
    done = cli("bench", folder / "images", "--batch-size", 2, "--rounds", 1, "--json")
    assert done.exit_code == 0, done.stderr
    assert {entry["batch"] for entry in json.loads(done.stdout)} == {2}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--samples", -1), "num_samples"),
        (("--samples", 2, "--format", "c"), "--samples is for bbnn"),
        (("--seed", 2, "--format", "onnx"), "--seed is for bbnn"),
        (("--seed", 2), "--seed has no effect without --samples"),
        (("--activations", "int16", "--format", "qonnx"), "--activations has no effect here"),
    ],
)
def test_bad_settings(cli, folder, arguments, says):
    done = cli("export", folder / "images", *arguments)
    assert done.exit_code == 2
    assert says in done.stderr


def test_runs_whose_names_hold_a_dot_have_files_of_their_own(cli, folder, tmp_path):
    for name in ("lr0.25", "lr0.50"):
        shutil.copytree(folder / "images", tmp_path / name)
        assert cli("export", tmp_path / name).stdout == f"wrote {tmp_path / name}.bbnn\n"
    assert cli("export", tmp_path / "lr0.25.bbnn", "--format", "c").stdout == f"wrote {tmp_path / 'lr0.25-c'}\n"
    assert {path.name for path in tmp_path.iterdir()} == {"lr0.25", "lr0.50", "lr0.25.bbnn", "lr0.50.bbnn", "lr0.25-c"}


def test_a_run_that_is_the_working_directory(cli, folder, tmp_path, monkeypatch):
    shutil.copytree(folder / "images", tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    assert cli("export", ".").stdout == f"wrote {tmp_path / 'run.bbnn'}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("export", "--samples", 8), "is a file of bits already: copy it"),
        (("export", "--format", "c", "--activations", "int16"), "--activations is chosen when a run is packed"),
        (("export", "--format", "onnx", "--activations", "int8"), "--activations is chosen when a run is packed"),
        (("bench", "--samples", 2), "--samples is chosen when a run is packed"),
    ],
)
def test_options_that_a_packed_file_cannot_follow(cli, folder, tmp_path, arguments, says):
    packed = tmp_path / "x.bbnn"
    assert cli("export", folder / "images", "--output", packed).exit_code == 0
    before = contents(tmp_path)
    done = cli(arguments[0], packed, *arguments[1:])
    assert done.exit_code == 2
    assert says in done.stderr
    assert contents(tmp_path) == before


def test_damaged_file(cli, tmp_path):
    (tmp_path / "bad.bbnn").write_bytes(b"nothing of the kind")
    for command in (("inspect",), ("bench",), ("export", "--format", "c")):
        done = cli(*command, tmp_path / "bad.bbnn")
        assert done.exit_code == 2
        assert "header length" in done.stderr


def test_networks_without_binary_layers(cli, folder):
    done = cli("export", folder / "float")
    assert done.exit_code == 2
    assert "no binary layer" in done.stderr


def test_files_and_folders_that_are_not_there(cli, folder, tmp_path):
    for arguments, sentence in (
        (("export", folder / "images", "--output", tmp_path / "nowhere" / "net.bbnn"), "nowhere: make it, or choose"),
        (("bench", tmp_path / "lost.bbnn"), "lost.bbnn: write one with bayesbinn export"),
        (("bench", folder / "images", "--threads", 2000), "2000 is not in the range"),
        (("export", folder / "images", "--output", folder / "images"), "is what is exported: choose another"),
        (("export", folder / "images", "--output", tmp_path), "is written as a file: choose another"),
    ):
        done = cli(*arguments)
        assert done.exit_code == 2
        assert sentence in done.stderr
    assert not list(tmp_path.iterdir())
