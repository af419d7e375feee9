"""`bayesbinn reproduce`: real training processes, interrupted, resumed, failing; results stored once."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from bayesbinn.files import HOST
from bayesbinn.locks import one_writer
from bayesbinn.recipes.recipe import find_recipe
from bayesbinn.recipes.reproduce import _collect
from bayesbinn.training import train
from bayesbinn.training.checkpoint import load_checkpoint
from bayesbinn.training.course import Callbacks, StoppedError

RECIPE = """
title = "two runs"
seeds = [0]
[settings]
data = "digits"
width = 16
depth = 1
samples = 2
epochs = {epochs}
[runs.bayesbinn]
[runs.ste]
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A folder `experiments` with digits/smoke.toml in the working directory, and a way to rewrite it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments" / "digits").mkdir(parents=True)

    def write(epochs=2, more=""):
        text = RECIPE.format(epochs=epochs) + more
        (tmp_path / "experiments" / "digits" / "smoke.toml").write_text(text, encoding="utf-8")

    write()
    return write


def stored(folder):
    return json.loads((folder / "experiments" / "results" / "digits-smoke.json").read_text(encoding="utf-8"))["runs"]


def test_results_are_stored_and_not_run_again(cli, recipe, tmp_path):
    first = cli("reproduce", "digits", "--again", "--store")
    assert first.exit_code == 0, first.output
    assert "two runs: 2 runs to do, 0 stored" in first.stdout
    assert "bayesbinn, seed 0: epoch 2/2" in first.stdout
    assert "ste, seed 0: mode" in first.stdout
    runs = stored(tmp_path)
    result = runs["bayesbinn"]["0"]
    assert set(result) == {"settings", "config", "num_train", "evaluation", "curve", "environment"}
    assert (result["num_train"], result["config"]["estimator"]) == (1437, "mean")
    assert len(result["curve"]["test_accuracy"]) == 2
    assert result["evaluation"]["mean"]["nll"] > 0
    assert runs["ste"]["0"]["evaluation"]["mean"] is None
    words = "bayesbinn train digits --width 16 --depth 1 --samples 2 --epochs 2 --method ste --seed 0 --output RUN"
    assert runs["ste"]["0"]["environment"]["command"] == words

    second = cli("reproduce", "digits", "--again", "--store")
    assert second.exit_code == 0
    assert "0 runs to do, 2 stored" in second.stdout
    assert stored(tmp_path) == runs

    path = tmp_path / "experiments" / "results" / "digits-smoke.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["runs"]["bayesbinn"]["0"]["config"]["kl_weight"] *= 2  # as if made under other defaults
    path.write_text(json.dumps(content), encoding="utf-8")
    again = cli("reproduce", "digits", "--again", "--store")
    assert "1 runs to do, 1 stored" in again.stdout
    assert stored(tmp_path)["ste"] == runs["ste"]
    assert stored(tmp_path)["bayesbinn"]["0"]["config"] == result["config"]

    folder = tmp_path / "runs" / "reproduce" / "digits-smoke" / "bayesbinn-0"
    made = (folder / "config.toml").read_text(encoding="utf-8")
    (folder / "config.toml").write_text(made.replace('estimator = "mean"', 'estimator = "draw"'), encoding="utf-8")
    path.write_text(json.dumps(content), encoding="utf-8")
    refused = cli("reproduce", "digits", "--again", "--store")
    assert refused.exit_code == 2
    assert "was started when the method had other defaults: move it away" in refused.stderr
    (folder / "config.toml").write_text(made, encoding="utf-8")
    path.write_text(json.dumps({**content, "runs": runs}), encoding="utf-8")

    recipe(more="clip = 0.5\n")  # of the last run only
    refused = cli("reproduce", "digits", "--again", "--store")
    assert refused.exit_code == 2
    assert "was started with other settings: move it away, or set the recipe back" in refused.stderr
    third = cli("reproduce", "digits", "--again", "--store", "--work", "elsewhere")
    assert "1 runs to do, 1 stored" in third.stdout
    assert stored(tmp_path)["ste"]["0"]["settings"]["clip"] == 0.5


def test_a_run_goes_on_with_the_threads_that_it_began_with(cli, recipe, tmp_path):
    folder = tmp_path / "runs" / "reproduce" / "digits-smoke" / "ste-0"
    folder.parent.mkdir(parents=True)
    threads = (os.cpu_count() or 1) + 1  # as on a machine with more cores
    settings = {"width": 16, "depth": 1, "samples": 2, "epochs": 2, "method": "ste", "seed": 0, "threads": threads}
    before = torch.get_num_threads()
    with pytest.raises(StoppedError):
        train(settings, folder, callbacks=Callbacks(stop=lambda: True))
    torch.set_num_threads(before)
    folder.with_name("ste-0.toml").write_text((folder / "config.toml").read_text(encoding="utf-8"), encoding="utf-8")
    done = cli("reproduce", "digits", "--again", "--store")
    assert done.exit_code == 0, done.output
    assert f"ste, seed 0: training in {folder.relative_to(tmp_path)} by {threads} threads, as it began" in done.stdout
    assert stored(tmp_path)["ste"]["0"]["config"]["threads"] == threads
    assert "warn" not in folder.with_name("ste-0.log").read_text().lower()


def test_a_log_that_is_damaged_is_said_and_the_rest_is_stored(recipe, tmp_path):
    found = find_recipe(tmp_path / "experiments", "digits", "smoke")
    folder = tmp_path / "work" / "digits-smoke" / "ste-0"
    train(found.run_settings("ste", 0), folder)
    file = folder / "metrics.jsonl"
    file.write_text("not JSON\n" + file.read_text(encoding="utf-8"), encoding="utf-8")
    said = []
    assert len(_collect(found, "ste", 0, tmp_path / "work", said.append)["curve"]["test_nll"]) == 2
    assert len(said) == 1
    assert "is damaged: 1 of 3 lines cannot be read, the first is line 1" in said[0]
    file.write_text("", encoding="utf-8")
    assert _collect(found, "ste", 0, tmp_path / "work", said.append)["curve"] == {}


def test_a_failing_run_leaves_the_others(cli, recipe, tmp_path):
    recipe(more='[runs.lost]\nmethod = "ste"\ndata = "npz:nowhere.npz"\n')
    done = cli("reproduce", "digits", "--again", "--store")
    assert done.exit_code == 2
    assert "lost, seed 0: failed, see" in done.stdout
    assert "1 runs failed (lost, seed 0): mend the cause and call reproduce again" in done.stderr
    assert set(stored(tmp_path)) == {"bayesbinn", "ste"}
    log = (tmp_path / "runs" / "reproduce" / "digits-smoke" / "lost-0.log").read_text()
    assert "no file at nowhere.npz" in log


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_it_saves_and_goes_on(cli, recipe, tmp_path, environment, number):
    recipe(epochs=60)
    command = [sys.executable, "-m", "bayesbinn", "reproduce", "digits", "--again", "--store"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "runs" / "reproduce" / "digits-smoke" / "bayesbinn-0" / "metrics.jsonl"
    try:
        while not log.exists() or log.read_text().count("\n") < 3:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    assert "mode" not in out
    assert "stopped, with everything saved in runs/reproduce: the same command goes on from there" in err
    left = load_checkpoint(log.parent)[2]["progress"]
    assert left["epoch"] >= 3
    text = log.with_name("config.toml").read_text()
    assert "epochs = 60" in text

    # no process of ours is left behind to write into the folder
    before = log.read_text()
    time.sleep(0.5)
    assert log.read_text() == before
    assert cli("reproduce", "digits", "--again", "--store").exit_code == 0
    assert len(stored(tmp_path)["bayesbinn"]["0"]["curve"]["test_accuracy"]) == 60
    assert log.parent.with_name("bayesbinn-0.log").read_text().count("epoch 1/60") == 1


def test_bad_calls_train_nothing(cli, recipe, tmp_path):
    for words, message in (
        (["digit"], "unknown item 'digit': did you mean 'digits'?"),
        (["digits", "--budget", "smoky"], "unknown budget of digits 'smoky': did you mean 'smoke'?"),
        (["digits", "--jobs", "0"], "--jobs must be at least 1, got 0"),
    ):
        done = cli("reproduce", *words, "--again")
        assert done.exit_code == 2
        assert message in done.stderr
    recipe(more="lrr = 0.1\n")
    done = cli("reproduce", "digits", "--again", "--store")
    assert done.exit_code == 2
    assert "unknown setting 'lrr': did you mean 'lr'?" in done.stderr
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "experiments" / "results").exists()


def test_one_recipe_one_process(cli, recipe, tmp_path):
    work = tmp_path / "runs" / "reproduce" / "digits-smoke"
    with one_writer(work):
        done = cli("reproduce", "digits", "--again", "--store")
    assert done.exit_code == 2
    assert f"{work.relative_to(tmp_path)} is being written by process {os.getpid()} on {HOST}: wait" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_without_options_it_shows_what_is_stored(cli, recipe, tmp_path):
    refused = cli("reproduce", "digits")
    assert refused.exit_code == 2
    assert "make them by reproduce digits --again" in refused.stderr
    assert cli("reproduce", "digits", "--again").exit_code == 0
    assert not (tmp_path / "experiments" / "results").exists()  # nothing is written there unless asked
    assert (tmp_path / "runs" / "reproduce" / "results" / "digits-smoke.json").exists()
    assert cli("reproduce", "digits", "--again", "--store").exit_code == 0
    shown = cli("reproduce", "digits")
    assert shown.exit_code == 0, shown.output
    head, *rows = shown.stdout.splitlines()
    assert head.split("  ")[0] == "run"
    assert "accuracy %, mode" in head
    assert sorted(row.split()[0] for row in rows) == ["bayesbinn", "ste", "stored"]
    assert rows[-1].endswith("bayesbinn reproduce digits --budget smoke --again makes it anew")
    path = tmp_path / "experiments" / "results" / "digits-smoke.json"
    path.write_text("{")
    damaged = cli("reproduce", "digits")
    assert (damaged.exit_code, "restore it from a copy" in damaged.stderr) == (2, True)
    assert "--store is for results" in cli("reproduce", "digits", "--store").stderr
    assert "digits" in cli("reproduce", "digit").stderr


def test_all_takes_every_item_and_goes_on_after_a_failure(cli, recipe, tmp_path):
    for item in ("broken", "later"):
        (tmp_path / "experiments" / item).mkdir()
    (tmp_path / "experiments" / "broken" / "smoke.toml").write_text('title = "no runs"\n', encoding="utf-8")
    (tmp_path / "experiments" / "later" / "day.toml").write_text(RECIPE.format(epochs=1), encoding="utf-8")
    shown = cli("reproduce", "all")
    assert shown.exit_code == 0, shown.output
    assert "make them by reproduce digits --again" in shown.stdout
    done = cli("reproduce", "all", "--budget", "smoke", "--again")
    assert done.exit_code == 2
    assert "without a recipe of the budget smoke, and not run: later" in done.stdout
    assert "has no [runs.NAME]: give at least one" in done.stdout
    assert "1 of 2 items failed (broken): see above" in done.stderr
    heads = [line for line in done.stdout.splitlines() if line.startswith("run ")]
    assert len(heads) == 1
    assert (tmp_path / "runs" / "reproduce" / "results" / "digits-smoke.json").exists()
    assert "no item has a recipe of the budget 'week'" in cli("reproduce", "all", "--budget", "week", "--again").stderr
