"""Continual runs: the same seed gives the same matrix, also after a kill in any task; bad input is one sentence."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bayesbinn.continual import TaskBatchNorm, set_task, task_logits
from bayesbinn.evaluation.report.stream import stream_page
from bayesbinn.prediction import predict
from bayesbinn.training import UserError, load_run, train
from bayesbinn.training.config import make
from bayesbinn.training.continual import build, joint, train_continual
from bayesbinn.training.course import Callbacks, StoppedError
from bayesbinn.training.strategies import STRATEGIES, ContinualConfig
from bayesbinn.training.tasks import load_stream

SMALL: dict[str, Any] = {"tasks": 2, "epochs": 1, "batch_size": 128, "width": 16, "depth": 1, "samples": 2}
KEPT = ("matrix", "mode_row", "mean_row", "untrained", "metrics")

CASES = [
    *({"strategy": name, "method": method} for name, row in STRATEGIES.items() for method in row.methods),
    {"statistics": "task"},
    {"statistics": "shared", "affine": True},
    {"strategy": "palimpsest", "blend": 0.5, "metaplasticity": 0.1, "momentum": 0.0},
    {"form": "weight", "estimator": "mean", "train_samples": 2, "precision": "bfloat16", "warmup": 0.5},
    {"statistics": "shared", "augment": "crop-flip"},
    {"strategy": "replay", "buffer": 50, "head": "multi"},
    {"data": "split-digits", "head": "multi", "strategy": "joint"},
    {"data": "rotated-digits"},
]


def small(case: dict[str, Any]) -> dict[str, Any]:
    return {**SMALL, "row_examples": 50, **case}


def kept(result: dict[str, Any]) -> dict[str, Any]:
    return {key: result[key] for key in KEPT} | {
        "tasks": [{k: v for k, v in line.items() if k != "seconds"} for line in result["tasks"]]
    }


def stopping_at(step: int) -> Callbacks:
    steps: list[int] = []
    return Callbacks(step=lambda done, total: steps.append(done), stop=lambda: len(steps) == step)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_stopping_at_any_step_changes_nothing(tmp_path: Path, case: dict[str, Any]) -> None:
    straight = train_continual(small(case), tmp_path / "straight")
    per_task = len(load_stream(make(ContinualConfig, small(case)))[0].train) // 128
    for stop_at in (1, per_task + 1):  # in the first and in the second task
        run, callbacks = tmp_path / f"stopped-{stop_at}", stopping_at(stop_at)
        with pytest.raises(StoppedError):
            train_continual(small(case), run, callbacks=callbacks)
        torch.manual_seed(12345)  # nothing may hang on the state that the process happens to be in
        resumed = train_continual({}, run, resume=True)
        assert kept(resumed) == kept(straight)


def test_the_seed_decides(tmp_path: Path) -> None:
    results = [train_continual(small({"seed": seed}), tmp_path / str(i)) for i, seed in enumerate((0, 0, 1))]
    assert kept(results[0]) == kept(results[1])
    assert results[0]["matrix"] != results[2]["matrix"]


def test_results_are_stored_and_complete(tmp_path: Path) -> None:
    result = train_continual(small({"ood": "digits", "row_samples": 2, "epochs": 4}), tmp_path / "run")
    assert json.loads((tmp_path / "run/results.json").read_text()) == result
    matrix = np.array(result["matrix"])
    assert matrix.shape == (2, 2)
    assert result["metrics"]["average"] == pytest.approx(matrix[-1].mean())
    assert result["metrics"]["mean_average"] == pytest.approx(np.mean(result["mean_row"]))
    assert matrix[0, 0] > 0.3 > matrix[0, 1]  # learned the one, has not seen the other
    for line in result["tasks"]:
        assert 0 <= line["entropy"] <= 0.6932
        assert line["ood_auroc"] == pytest.approx(0.5, abs=0.12)  # the same images, only more of them


def test_rows_of_the_latest_tasks_are_parts_of_the_whole_matrix(tmp_path: Path) -> None:
    whole = train_continual(small({"tasks": 4}), tmp_path / "whole")
    found = train_continual(small({"tasks": 4, "row_tasks": 2}), tmp_path / "run")
    assert found["first"] == [0, 0, 1, 0]
    assert [len(row) for row in found["matrix"]] == [2, 3, 3, 4]
    for row, first, complete in zip(found["matrix"], found["first"], whole["matrix"], strict=True):
        assert row == complete[first:][: len(row)]
    known = dict(whole["metrics"])
    del known["forgetting"]  # needs every row
    assert found["metrics"] == known
    charts = [stream_page(result, "t").sections[1].figures for result in (whole, found)]
    assert "average over the tasks seen so far" in str(charts[0])
    assert "average of the latest 2" in str(charts[1])
    assert len(charts[1]) == len(charts[0]) - 1  # no heat map
    alone = train_continual(small({"tasks": 4, "row_tasks": 1}), tmp_path / "alone")
    assert [len(row) for row in alone["matrix"]] == [2, 2, 2, 4]
    assert stream_page(alone, "t").sections


def test_joint_training_takes_as_many_steps(tmp_path: Path) -> None:
    counts = []
    for strategy in ("naive", "joint"):
        steps: list[int] = []
        callbacks = Callbacks(step=lambda done, total, steps=steps: steps.append(total))
        train_continual(small({"strategy": strategy}), tmp_path / strategy, callbacks=callbacks)
        counts.append(len(steps))
    assert counts[0] == counts[1] > 0


def test_prior_protects_what_naive_forgets(tmp_path: Path) -> None:
    settings = {"epochs": 12, "batch_size": 32, "width": 64, "tasks": 2, "strength": 2.0, "samples": 8}
    prior = train_continual(settings, tmp_path / "prior")
    del settings["strength"]
    naive = train_continual({**settings, "strategy": "naive"}, tmp_path / "naive")
    assert prior["mean_row"][0] > naive["mean_row"][0] + 0.05


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"data": "split-digits", "tasks": 6}, "6 tasks need 12 classes, the data has 10: at most 5"),
        ({"data": "split-digits", "tasks": 3}, "do not divide into 3"),
        ({"data": "shuffled-digits"}, "unknown stream 'shuffled-digits'"),
        ({"data": "permuted-digit"}, "did you mean 'digits'"),
        ({"strategy": "priors"}, "did you mean 'prior'"),
        ({"strategy": "window"}, "unknown strategy 'window'"),
        ({"strategy": "naive", "strength": 2.0}, "'naive' takes no strength: .* strategy prior, ewc"),
        ({"window": 5.0}, "method 'bayesbinn' takes no window: .* method palimpsest, bimu"),
        ({"cooling": 2.0}, "continual takes no cooling"),
        ({"strategy": "ewc", "method": "ste"}, "does not go with method 'ste'"),
        ({"strategy": "replay", "buffer": 100_000}, "buffer 100000 is larger than the data, 2874 examples"),
        ({"blend": 0.5}, "needs task boundaries"),
        ({"statistics": "task", "strategy": "joint"}, "need batches of one task"),
        ({"batch_size": 5000}, "batch_size 5000 exceeds the 1437 training examples"),
        ({"ood": "permuted"}, "unknown data set"),
        ({"validation": 0.1}, "continual takes no validation"),
        ({"lr": 5.0}, "lr must be in"),
        ({"tasks": 0}, "tasks must be at least 1"),
        ({"strategy": "palimpsest", "window": 10.0, "batch_size": 100}, "batch_size of at most the window"),
        ({"strategy": "naive", "method": "float", "lr": 1e9, "depth": 6, "output_gain": 1e9}, "loss became"),
    ],
)
def test_bad_settings_are_one_sentence(tmp_path: Path, settings: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=why):
        train_continual({"tasks": 2, **settings}, tmp_path / "run")


def test_resuming_with_another_stream_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "tasks"
    folder.mkdir()
    write_tasks(folder, seed=0)
    settings = small({"data": f"tasks:{folder}", "batch_size": 20})
    callbacks = Callbacks(stop=lambda: True)
    with pytest.raises(StoppedError):
        train_continual(settings, tmp_path / "run", callbacks=callbacks)
    with pytest.raises(UserError, match="was started with data = "):
        train_continual({"data": "permuted-digits"}, tmp_path / "run", resume=True)
    with pytest.raises(UserError, match="was started with stream_seed = 0, not 5"):
        train_continual({"stream_seed": 5}, tmp_path / "run", resume=True)
    with pytest.raises(UserError, match="is a run of bayesbinn continual: resume it with that command"):
        train({}, tmp_path / "run", resume=True)
    train({"epochs": 1, "width": 16, "samples": 0}, tmp_path / "one")
    with pytest.raises(UserError, match="is a run of bayesbinn train: resume it with that command"):
        train_continual({}, tmp_path / "one", resume=True)
    write_tasks(folder, seed=1)  # the same files, other contents
    with pytest.raises(UserError, match="of another run: stream is"):
        train_continual({}, tmp_path / "run", resume=True)


def write_tasks(folder: Path, seed: int) -> None:
    random = np.random.RandomState(seed)
    arrays = {
        f"{kind}_{part}": random.rand(60, 6).astype(np.float32) if kind == "x" else random.randint(0, 3, 60)
        for kind in "xy"
        for part in ("train", "test")
    }
    np.savez(folder / "1.npz", **arrays)
    header = ",".join([*(f"f{i}" for i in range(6)), "label"])
    rows = [",".join(map(str, [*random.rand(6).round(3), random.randint(0, 3)])) for _ in range(100)]
    (folder / "2.csv").write_text("\n".join([header, *rows]) + "\n")


def test_own_tasks_from_files(tmp_path: Path) -> None:
    write_tasks(tmp_path, seed=0)
    stream = load_stream(make(ContinualConfig, {"data": f"tasks:{tmp_path}", "tasks": 2}))
    assert [(len(task.train), len(task.test)) for task in stream] == [(60, 60), (80, 20)]
    assert stream.input_shape == (6,)
    assert any("2.csv has no test part: " in note for note in stream.notes)
    with pytest.raises(UserError, match="holds 2 tasks"):
        load_stream(make(ContinualConfig, {"data": f"tasks:{tmp_path}", "tasks": 3}))
    with pytest.raises(UserError, match="no folder"):
        load_stream(make(ContinualConfig, {"data": "tasks:/nowhere", "tasks": 3}))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a,b\n1,2\n", "column named label"),
        ("a,label\n1,0\nx,1\n", "line 3: every column must hold a number"),
        ("a,label,split\n1,0,train\n2,1,dev\n", "line 3: split must be train or test"),
        ("a,label,split\n1,0,train\n2,1,train\n", "no test rows"),
        ("", "column named label"),
    ],
)
def test_bad_csv_files_are_named_with_their_line(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "1.csv").write_text(text)
    with pytest.raises(UserError, match=why):
        load_stream(make(ContinualConfig, {"data": f"tasks:{tmp_path}", "tasks": 1}))


def test_own_tasks_of_different_shapes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,label\n" + "1,0\n2,1\n" * 5)
    (tmp_path / "2.csv").write_text("a,b,label\n" + "1,3,0\n2,4,1\n" * 5)
    with pytest.raises(UserError, match=r"2\.csv has 2 columns, training has 1 there"):
        load_stream(make(ContinualConfig, {"data": f"tasks:{tmp_path}", "tasks": 2}))


@pytest.mark.parametrize(("window", "steps"), [(5000.0, 100.0), (0.0, 5 * 1437 / 50)])
def test_the_window_sets_what_a_step_forgets(tmp_path: Path, window: float, steps: float) -> None:
    settings = {"strategy": "palimpsest", "window": window, "batch_size": 50, "kl_weight": 0.5}
    config = make(ContinualConfig, settings)
    trainer, _ = build(config, load_stream(config), tmp_path)
    group = trainer.optimizer.param_groups[0]
    assert (group["window"], group["num_examples"]) == (pytest.approx(steps), 100.0)


def test_a_weight_of_nan_never_reaches_a_checkpoint(tmp_path: Path) -> None:
    config = make(ContinualConfig, small({}))
    trainer, _ = build(config, load_stream(config), tmp_path / "run")
    (tmp_path / "run").mkdir()

    def poison(done: int, total: int) -> None:
        if done == total:  # no loss is left to tell
            torch.nn.init.constant_(trainer.optimizer.param_groups[0]["params"][0], float("nan"))

    with pytest.raises(UserError, match=r"became NaN or infinite around step 11 of 11 of task 1: training stopped"):
        trainer.fit(Callbacks(step=poison))
    assert not (tmp_path / "run/checkpoint").exists()


def test_joint_training_sees_every_task_at_once() -> None:
    config = make(ContinualConfig, {"data": "split-digits", "tasks": 5, "head": "multi"})
    stream = load_stream(config)
    mixed = joint(stream)
    assert len(mixed) == 5
    assert {len(task.train) for task in mixed} == {sum(len(task.train) for task in stream)}
    assert sorted(set(mixed[2].train.y.tolist())) == list(range(10))
    assert torch.equal(mixed[2].test.y, stream[2].test.y)


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [({}, [60, 80]), ({"strategy": "joint"}, [140, 140]), ({"num_data": 7}, [7, 7])],
    ids=["prior", "joint", "given"],
)
def test_the_rule_counts_the_examples_of_the_task(tmp_path: Path, settings: dict[str, Any], sizes: list[int]) -> None:
    write_tasks(tmp_path, seed=0)
    found: dict[int, set[float]] = {}

    def note(run: Path, callbacks: Callbacks, resume: bool = False) -> None:
        config = make(ContinualConfig, small({"data": f"tasks:{tmp_path}", "batch_size": 10, **settings}))
        trainer, _ = build(config, load_stream(config), run)
        if resume:
            trainer.load()
        callbacks.step = lambda done, total: found.setdefault(trainer.index, set()).update(
            group["num_data"] for group in trainer.optimizer.rules[0].param_groups
        )
        trainer.fit(callbacks)

    run = tmp_path / "run"
    run.mkdir()
    asked = iter(range(1000))
    with pytest.raises(StoppedError):
        note(run, Callbacks(stop=lambda: next(asked) == 8))  # in the second task, whose N a checkpoint has to keep
    assert found == {0: {sizes[0]}, 1: {sizes[1]}}
    note(run, Callbacks(), resume=True)
    assert found == {0: {sizes[0]}, 1: {sizes[1]}}


def test_a_buffer_may_hold_all_tasks_of_any_size(tmp_path: Path) -> None:
    write_tasks(tmp_path, seed=0)  # 60 and 80 examples
    settings = small({"data": f"tasks:{tmp_path}", "batch_size": 10, "strategy": "replay"})
    train_continual({**settings, "buffer": 140}, tmp_path / "run")
    with pytest.raises(UserError, match="buffer 141 is larger than the data, 140 examples in all: lower it"):
        train_continual({**settings, "buffer": 141}, tmp_path / "other")


@pytest.mark.parametrize(
    "settings",
    [{}, {"statistics": "task", "affine": True}, {"statistics": "layer", "data": "split-digits", "head": "multi"}],
    ids=["none", "task", "heads"],
)
@pytest.mark.filterwarnings("ignore:batch norm has the statistics of training")
def test_a_loaded_run_of_a_stream_is_the_network_that_was_measured(tmp_path: Path, settings: dict[str, Any]) -> None:
    result = train_continual(small({**settings, "epochs": 4}), tmp_path / "run")
    net, config, description = load_run(tmp_path / "run")
    assert isinstance(config, ContinualConfig)
    assert description["classes"] == [str(i) for i in range(10)]
    stream = load_stream(config)
    for index, task in enumerate(stream):  # of the tasks, the last is in force
        set_task(net, index)
        labels = predict(net, task.test.x, 0, output=lambda z, task=task: task_logits(z, task.outputs)).labels
        assert float((labels == task.test.y).double().mean()) == pytest.approx(result["mode_row"][index])
    again, _, _ = load_run(tmp_path / "run")
    norms = [m.task for m in again.modules() if isinstance(m, TaskBatchNorm)]
    assert norms == [1, 1] * (settings.get("statistics") == "task")


def test_a_run_stopped_in_its_second_task_has_the_statistics_of_the_latest(tmp_path: Path) -> None:
    tasks = []
    for steps in (11, 12):  # the first task has 11
        run = tmp_path / str(steps)
        with pytest.raises(StoppedError):
            train_continual(small({"statistics": "task"}), run, callbacks=stopping_at(steps))
        tasks += [m.task for m in load_run(run)[0].modules() if isinstance(m, TaskBatchNorm)]
    assert tasks == [0, 0, 1, 1]


def test_every_epoch_of_a_stream_is_logged(tmp_path: Path) -> None:
    train_continual(small({"epochs": 2}), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [(line["task"], line["epoch"]) for line in lines] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert all({"loss", "accuracy", "test_accuracy", "kl", "flip_rate"} <= line.keys() for line in lines)


@pytest.mark.slow
def test_killing_the_process_changes_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bayesbinn", "continual", "permuted-digits", "--tasks", "3", "--epochs", "40"]
    command += ["--batch-size", "32", "--checkpoint-steps", "20", "--threads", "1", "--samples", "2"]
    subprocess.run([*command, "--output", str(tmp_path / "straight")], check=True, capture_output=True)
    for attempt in range(4):
        process = subprocess.Popen([*command, "--output", str(tmp_path / "run"), "--resume"])
        time.sleep(3 + attempt)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([*command, "--output", str(tmp_path / "run"), "--resume"], check=True, capture_output=True)
    results = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("straight", "run")]
    assert kept(results[0]) == kept(results[1])
