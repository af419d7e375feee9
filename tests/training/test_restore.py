"""Resuming: what was changed by hand, or computes otherwise, is said or refused."""

import pytest
import torch

from bayesbinn.errors import UserError
from bayesbinn.training import train
from bayesbinn.training.checkpoint import load_checkpoint, save_checkpoint
from bayesbinn.training.continual import train_continual
from tests.runs import TINY, blobs_file, contents


@pytest.fixture(params=["train", "continual"])
def resume(request, tmp_path):
    """A finished run in tmp_path / "run"; calling this resumes it."""
    run = tmp_path / "run"
    if request.param == "train":
        settings, command = {**TINY, "data": blobs_file(tmp_path / "set.npz"), "epochs": 1}, train
    else:
        settings, command = {"tasks": 2, "epochs": 1, "width": 8, "depth": 1, "samples": 2}, train_continual
    command(settings, run)
    return lambda: command({}, run, resume=True)


@pytest.mark.parametrize(("name", "value"), [("batch_size", 16), ("lr", 0.75), ("samples", 3), ("seed", 1)])
def test_a_configuration_changed_by_hand_is_refused(resume, tmp_path, name, value):
    file = tmp_path / "run" / "config.toml"
    lines = [line for line in file.read_text().splitlines() if not line.startswith(f"{name} = ")]
    file.write_text("\n".join([*lines, f"{name} = {value}"]))
    before = contents(tmp_path)
    with pytest.raises(UserError, match=rf"run/config.toml has {name} = {value}, training began with .*: set it back"):
        resume()
    assert contents(tmp_path) == before


def test_another_number_of_threads_is_said(resume, tmp_path):
    run = tmp_path / "run"
    resume()
    model, training, state = load_checkpoint(run)
    threads = state["threads"]
    assert threads == torch.get_num_threads()
    save_checkpoint(run, model, training, {**state, "threads": threads + 1})
    with pytest.warns(
        UserWarning, match=rf"was computed with {threads + 1} threads and goes on with {threads}: its bits"
    ):
        resume()


def test_an_instruction_set_that_does_not_exist_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("BAYESBINN_ISA", "bogus")
    for command in (train, train_continual):
        with pytest.raises(UserError, match=r"BAYESBINN_ISA is 'bogus', this machine can run .*numpy"):
            command({}, tmp_path / "run")
    assert contents(tmp_path) == {}
