"""What newcomers met in their first hour (docs/design/first-hour.md), by the number that it has there."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import bayesbinn as bb
from bayesbinn.data import load_data

TINY = ("--width", 16, "--depth", 1, "--samples", 4, "--batch-size", 16, "--threads", 1)
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """train, val and test of two classes; images of several sizes; a run named run, and run.bbnn."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for part, count in (("train", 24), ("val", 4), ("test", 6)):
        for name, colour in (("cat", (170, 60, 40)), ("dog", (40, 60, 170))):
            (root / "set" / part / name).mkdir(parents=True)
            for i in range(count):
                size = (*rng.integers(16, 40, 2), 3)
                pixels = (rng.integers(0, 60, size) + np.array(colour)).astype(np.uint8)
                Image.fromarray(pixels).save(root / "set" / part / name / f"{i}.png")
    return root


@pytest.fixture
def trained(cli, photos, monkeypatch) -> Path:
    monkeypatch.chdir(photos)
    if not Path("run").exists():
        done = cli("train", "imagefolder:set", "--image-size", 12, "--epochs", 6, "--output", "run", *TINY)
        assert done.exit_code == 0, done.output
        assert cli("export", "run", "--output", "run.bbnn", "--samples", 2).exit_code == 0
    return photos


def loop(net: nn.Module, data, epochs: int) -> None:
    """The loop of README.md, with its defaults."""
    optimizer = bb.optimizer_for(net, num_data=len(data.train))
    x, y = data.train.x.float() / 16, data.train.y
    for _ in range(epochs):
        for chosen in torch.randperm(len(x)).split(32):
            F.cross_entropy(net(x[chosen]), y[chosen]).backward()
            optimizer.step()
            optimizer.zero_grad()
    bb.calibrate_(net, x)
    net.eval()


def accuracy(net: nn.Module, data) -> float:
    return float((bb.predict(net, data.test.x.float() / 16, 0).labels == data.test.y).float().mean())


def test_u1_a_plain_network_without_batch_norm_learns_with_the_defaults():
    data = load_data("digits")
    layers = [nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)]
    net = bb.binarize_(nn.Sequential(nn.Flatten(), *layers), quiet=True)
    loop(net, data, 12)
    assert accuracy(net, data) > 0.9  # without a scale of its layers it stays at chance for long


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_u2_the_defaults_do_not_depend_on_the_size_of_the_data(share):
    data = load_data("digits", validation=1 - share) if share < 1 else load_data("digits")
    conv = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.SiLU(), nn.MaxPool2d(2), nn.Flatten()]
    net = bb.binarize_(nn.Sequential(*conv, nn.Linear(256, 10)), quiet=True)
    loop(net, data, round(6 / share))
    assert accuracy(net, data) > 0.85


def test_u3_a_mode_that_was_not_calibrated_is_warned_of():
    data = load_data("digits")
    layers = [nn.Linear(64, 32), nn.BatchNorm1d(32), nn.Linear(32, 10)]
    net = bb.binarize_(nn.Sequential(nn.Flatten(), *layers), quiet=True)
    optimizer = bb.optimizer_for(net, num_data=len(data.train))
    F.cross_entropy(net(data.train.x[:32].float()), data.train.y[:32]).backward()
    optimizer.step()
    with pytest.warns(bb.nn.UncalibratedWarning, match=r"call bb\.calibrate_"):
        bb.predict(net.eval(), data.test.x.float(), 0)
    assert "bb.calibrate_(net, x[train])" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_u5_what_goes_in_and_comes_out_is_said_wherever_the_network_is(cli, trained, tmp_path):
    said = [cli("inspect", "run").stdout, cli("inspect", "run.bbnn").stdout]
    assert cli("export", "run.bbnn", "--format", "c", "--output", tmp_path / "c").exit_code == 0
    said.append((tmp_path / "c" / "net.h").read_text(encoding="utf-8"))
    onnx = pytest.importorskip("onnx")
    assert cli("export", "run", "--format", "onnx", "--output", tmp_path / "x.onnx").exit_code == 0
    found = {p.key: p.value for p in onnx.load(tmp_path / "x.onnx").metadata_props}
    assert json.loads(found["classes"]) == ["cat", "dog"]
    said.append(f"{found['input']}, {found['classes']}")
    takes = r"float32 of shape 3×12×12 \(channels, height, width\), from \d+ to 2\d\d as in training, without further"
    for text in said:
        assert re.search(takes, text), text
        assert "short side resized to 12 pixels" in text
        assert re.search(r"cat\W+dog", text)
    report = (trained / "run" / "report.html").read_text(encoding="utf-8")
    assert "cat" in report
    assert "dog" in report
    np.save(tmp_path / "unit.npy", np.random.default_rng(0).random((2, 3, 12, 12), np.float32))
    done = cli("predict", "run.bbnn", tmp_path / "unit.npy")  # 0 to 1 where it wants 0 to 255
    assert "is it in the same units?" in done.stderr


def test_u6_what_stays_real_is_said_and_a_second_call_has_a_sentence(capsys):
    parts = [nn.Conv3d(1, 2, 3), nn.ConvTranspose2d(2, 2, 3), nn.LSTM(4, 4), nn.LayerNorm(4), nn.Embedding(9, 4)]
    net = nn.Sequential(*parts)
    bb.binarize_(net)
    said = capsys.readouterr().err
    assert "1 Conv3d, 1 ConvTranspose2d, 1 LSTM" in said
    assert "real: 4 (Embedding: real unless it is included" in said
    twice = bb.binarize_(nn.Sequential(nn.Linear(4, 4)), quiet=True)
    with pytest.raises(ValueError, match="is binary already: call it once"):
        bb.binarize_(twice, quiet=True)
    with pytest.raises(TypeError, match=r"got a bare LSTM: use BinaryLSTM, for this one"):
        bb.binarize_(nn.LSTM(4, 4), quiet=True)


def test_u7_the_first_line_of_the_page_packs_convolutions_and_compiled_networks():
    x = torch.randn(8, 3, 8, 8)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3)]
    net = bb.binarize_(nn.Sequential(*layers), quiet=True).eval()
    raw = bb.deploy.pack(net, calibration=x)
    assert bb.deploy.pack(torch.compile(net, backend="eager"), calibration=x) == raw
    assert bb.runtime.load(raw).run(x.numpy()).shape == (8, 3)
    transformer = bb.binarize_(nn.TransformerEncoderLayer(4, 2), quiet=True).eval()
    with pytest.raises(bb.deploy.UnsupportedError, match=r"docs/deploy\.md"):
        bb.deploy.pack(transformer, calibration=torch.randn(2, 3, 4))


def test_u8_images_of_any_size_are_predicted_by_a_run_and_by_its_file(cli, trained):
    files = sorted(Path("set/test").rglob("*.png"))
    for shipped in ("run", "run.bbnn"):
        rows = list(csv.DictReader(cli("predict", shipped, *files).stdout.splitlines()))
        assert [row["file"] for row in rows] == list(map(str, files))
        assert np.mean([row["class"] == file.parent.name for row, file in zip(rows, files, strict=True)]) > 0.9
    result = json.loads(cli("evaluate", "run", "--json", "--corruptions", "--ood", "noise").stdout)
    assert (result["num_examples"], len(result["corruptions"])) == (12, 3)
    assert cli("evaluate", "run", "--data", "imagefolder:set/val", "--no-report").exit_code == 0


def test_u8_one_missing_file_leaves_the_other_rows(cli, trained):
    known = "set/test/cat/0.png"
    for shipped in ("run", "run.bbnn"):
        done = cli("predict", shipped, known, "nowhere.png", known)
        assert done.exit_code == 1
        assert [line.split(",")[0] for line in done.stdout.splitlines()] == ["file", known, known]
        assert done.stderr.endswith("error: no file at nowhere.png: give an existing image\n")
        none = cli("predict", shipped, "nowhere.png", "neither.png")
        assert (none.exit_code, none.stdout) == (2, "")


def test_u10_replaced_images_are_noticed_and_the_folder_is_found_from_elsewhere(cli, trained, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert "has changed" not in cli("evaluate", trained / "run", "--no-report").stderr
    file = trained / "set" / "train" / "cat" / "0.png"
    before = file.read_bytes()
    Image.new("RGB", (20, 20), (1, 2, 3)).save(file)
    said = cli("evaluate", trained / "run", "--no-report").stderr
    file.write_bytes(before)
    assert "has changed since training: 48+8+12 examples, digest" in said


def test_damaged_files_stay_out_when_the_run_is_used(cli, trained, tmp_path):
    broken = trained / "set" / "train" / "cat" / "broken.png"
    broken.write_text("no image")
    options = ("--image-size", 12, "--epochs", 1, *TINY)
    refused = cli("train", "imagefolder:set", "--output", tmp_path / "no", *options)
    done = cli("train", "imagefolder:set", "--output", tmp_path / "yes", "--skip-damaged", *options)
    used = cli("evaluate", tmp_path / "yes", "--no-report")
    broken.unlink()
    assert refused.exit_code == 2
    assert "broken.png" in refused.stderr
    assert "--skip-damaged" in refused.stderr
    assert "note: 1 images cannot be read and left out: train/cat/broken.png" in done.stderr
    assert used.exit_code == 0
    assert "left out: train/cat/broken.png" in used.stderr
    idle = cli("train", "digits", "--skip-damaged", "--epochs", 1, "--output", tmp_path / "digits", *TINY)
    assert "skip_damaged True has no effect on data 'digits', which is no folder" in idle.stderr


def test_the_page_names_tests_that_exist():
    page = (ROOT / "docs" / "design" / "first-hour.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert set(range(1, 11)) == {int(n) for n in re.findall(r"^\| U(\d+) \|", page, re.MULTILINE)}
    assert len(named) >= 10
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), (file, test)
