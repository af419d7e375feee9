"""What docs/ecosystem.md shows runs with the real packages."""

import json
import logging
import sqlite3
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from tests.pages import codes, page, run_python, section

PAGE = page("ecosystem.md")
# imports of these packages warn of what is not ours
pytestmark = pytest.mark.filterwarnings("ignore")


def run(title: str, names: dict[str, Any]) -> dict[str, Any]:
    (code,) = codes(section(PAGE, title), "python")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_python(code, names, f"ecosystem.md: {title}")
    return names


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    x = torch.randn(640, 8)
    y = x[:, :3].argmax(1)
    return {"x": x, "y": y, "loader": DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True), "__name__": "page"}


@pytest.mark.parametrize(("section", "package"), [("Lightning", "lightning.pytorch"), ("accelerate", "accelerate")])
def test_loops_of_other_packages_learn(names: dict[str, Any], section: str, package: str) -> None:
    pytest.importorskip(package)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    found = run(section, names)
    assert (found["p"].labels == found["y"]).float().mean() > 0.85


def test_a_network_goes_to_a_folder_and_back(names: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    found = run("Hugging Face Hub", names)
    assert (tmp_path / "net" / "model.safetensors").exists()
    for samples in (0, 4):
        own, again = (found["bb"].predict(found[name], found["x"], samples).probs for name in ("net", "again"))
        assert torch.equal(own, again)
    assert found["again"].layers[0].natural.shape == (32, 8)


def test_figures_of_epochs(names: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    found = run("TensorBoard, trackio", names)
    assert [epoch for epoch, _ in found["seen"]] == [1, 2, 3]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    assert [e.step for e in events.Scalars("nll")] == [1, 2, 3]
    assert [e.value for e in events.Scalars("nll")] == pytest.approx([nll for _, nll in found["seen"]])
    assert {"accuracy", "test_accuracy"} <= set(events.Tags()["scalars"])


def test_an_exported_program_is_the_mode(names: dict[str, Any]) -> None:
    assert run("torch.export", names)["same"]


def test_figures_go_to_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    trackio = pytest.importorskip("trackio")
    import bayesbinn as bb

    log = bb.training.logs.trackio("digits", name="one")
    log({"nll": 0.5, "accuracy": 0.75}, 1)
    log({"nll": 0.25, "accuracy": 0.875}, 2)
    trackio.finish()
    with closing(sqlite3.connect(tmp_path / "digits.db")) as store:
        rows = store.execute("select step, metrics from metrics order by step").fetchall()
    told = [(step, json.loads(text).get("nll")) for step, text in rows]  # its own figures of the system may lie between
    assert [(step, nll) for step, nll in told if nll is not None] == [(1, 0.5), (2, 0.25)]
