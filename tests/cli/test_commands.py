"""Each command as a newcomer would use it."""

import csv
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from bayesbinn import __version__
from bayesbinn.cli.main import COMMANDS
from bayesbinn.training.config import make_config, read_toml, settings_of, to_toml
from bayesbinn.training.methods import ESTIMATORS, METHODS
from bayesbinn.training.models import MODELS
from tests.runs import final_state, log

TINY = ("--width", 16, "--depth", 1, "--epochs", 2, "--samples", 4)


def test_help_and_version(cli):
    assert cli("--version").stdout == f"bayesbinn, version {__version__}\n"
    for flag in ("--help", "-h"):
        shown = cli(flag)
        assert shown.exit_code == 0
        assert all(f"  {name} " in shown.stdout for name in COMMANDS)
    for name in COMMANDS:
        assert cli(name, "--help").stdout.startswith(f"Usage: main {name}")


def test_train_help_shows_every_setting_with_its_default_by_topic(cli):
    text = cli("train", "--help").stdout
    topics = re.findall(r"^([A-Z][^:\n]*):$", text, re.MULTILINE)
    assert topics == [
        *("Data", "Network", "Training", "The Bayesian rule", "Options of other methods", "Output and machine"),
        *("Methods", "Estimators of bayesbinn (--estimator)"),
    ]
    sections = dict(zip(topics, re.split(r"^[A-Z][^:\n]*:$", text, flags=re.MULTILINE)[1:], strict=True))
    words = {topic: " ".join(section.split()) for topic, section in sections.items()}
    for topic, name in (
        ("Training", "epochs"),
        ("The Bayesian rule", "kl-weight"),
        ("Options of other methods", "clip"),
    ):
        assert f"--{name} " in words[topic]
    everything = " ".join(words.values())
    for choice in [*({"method": m} for m in METHODS), *({"estimator": e} for e in ESTIMATORS)]:
        config = make_config(choice)
        for name, value in settings_of(config).items():
            if name not in ("data", *choice):
                line = re.search(rf"--{name.replace('_', '-')}[ /].*?\[default: ([^\]]*)\]", everything)
                assert str(value) in re.split(r"[;:] ", line[1]), (name, line[0])
    assert "the method's" not in text
    assert all(f"  {name} " in text for name in (*METHODS, *ESTIMATORS))
    assert all(model in text for model in MODELS)


def test_quiet_prints_nothing(cli, here, tmp_path):
    done = cli("train", "npz:images.npz", "--output", tmp_path / "run", "-q", *TINY)
    assert (done.exit_code, done.output) == (0, "")
    assert (tmp_path / "run" / "evaluation.json").exists()
    failed = cli("train", "npz:none.npz", "--output", tmp_path / "other", "--quiet")
    assert failed.stderr.startswith("error: no file at none.npz")


def test_train_and_use_the_run(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = cli("train", "digits", "--output", "runs/first", *TINY)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[:2]] == ["epoch 1/2", "epoch 2/2"]
    assert lines[-1] == "saved in runs/first"
    accuracy = re.search(r"^mode +([\d.]+)%", done.stdout, re.MULTILINE)
    assert float(accuracy[1]) > 50  # chance is 10 %
    for word in ("mean of 4", "NLL (nats)", "ECE", "undecided", "of 0.693 nats a weight"):
        assert word in done.stdout
    assert done.stderr == ""  # no progress bar where there is no terminal

    shown = cli("evaluate", "runs/first", "--samples", 4)
    assert shown.stdout.splitlines() == lines[2:-1]
    stored = json.loads((tmp_path / "runs/first/evaluation.json").read_text())
    result = json.loads(cli("evaluate", "runs/first", "--samples", 4, "--json").stdout)
    assert result.pop("figures").keys() == {"confusion", "reliability", "risk_coverage", "entropy", "examples"}
    assert result.pop("environment")["threads"] == 1
    assert result == {k: v for k, v in stored.items() if k not in ("environment", "train_seconds")}


@pytest.mark.parametrize(
    "choice", [*(("--method", m) for m in METHODS), *(("--estimator", e) for e in ESTIMATORS)], ids=lambda c: c[1]
)
def test_every_method_from_the_command_line(cli, here, tmp_path, choice):
    done = cli("train", "npz:images.npz", *choice, "--output", tmp_path / "run", *TINY)
    assert done.exit_code == 0, done.output
    assert len(log(tmp_path / "run")) == 2
    for command in ("evaluate", "inspect"):
        assert cli(command, tmp_path / "run").exit_code == 0


def test_options_reach_the_run(cli, here, tmp_path):
    options = {
        "model": "vgg-small",
        "width_multiplier": 0.02,
        "lr": 0.5,
        "affine": False,
        "augment": "crop-flip",
        "seed": 3,
    }
    words = [w for k, v in options.items() if v is not False for w in (f"--{k.replace('_', '-')}", v)]
    done = cli("train", "npz:images.npz", *words, "--no-affine", "--epochs", 1, "--output", tmp_path / "run")
    assert done.exit_code == 0, done.output
    stored = read_toml(tmp_path / "run" / "config.toml")
    assert {k: stored[k] for k in options} == options


# --- recipes ---


def test_print_config_and_config_round_trip(cli, tmp_path):
    printed = cli("train", "--print-config").stdout
    assert make_config(read_toml_text(tmp_path, printed)) == make_config({})
    recipe = tmp_path / "recipe.toml"
    assert cli("train", "--config", recipe, "--print-config").stdout == printed


@pytest.mark.parametrize(
    "choice", [*({"method": m} for m in METHODS), *({"estimator": e} for e in ESTIMATORS)], ids=str
)
def test_every_setting_survives_the_round_trip(cli, tmp_path, choice):
    odd = settings_of(make_config(choice))
    for name, value in odd.items():
        if name in ("batch_size", "epochs", "width", "train_samples"):
            odd[name] = value + 2
        elif name not in (*choice, "model", "natural_dtype") and isinstance(value, (bool, int, float)):
            odd[name] = not value if isinstance(value, bool) else value / 2 if isinstance(value, float) else value + 1
    odd |= {"data": "npz:a b.npz", "init": "zeros"} if "init" in odd else {"data": "npz:a b.npz"}
    words = []
    for name, value in odd.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif name != "data":
            words += [f"--{flag}", value]
    first = cli("train", odd["data"], *words, "--print-config")
    assert first.exit_code == 0, first.output
    assert read_toml_text(tmp_path, first.stdout) == odd
    assert cli("train", "--config", tmp_path / "recipe.toml", "--print-config").stdout == first.stdout
    assert first.stdout == to_toml(make_config(odd))


def read_toml_text(folder, text):
    (folder / "recipe.toml").write_text(text, encoding="utf-8")
    return read_toml(folder / "recipe.toml")


def test_options_override_the_recipe(cli, tmp_path):
    (tmp_path / "r.toml").write_text('data = "mnist"\nepochs = 7\nwidth = 99\n')
    printed = cli("train", "digits", "--config", tmp_path / "r.toml", "--epochs", 3, "--print-config").stdout
    config = make_config(read_toml_text(tmp_path, printed))
    assert (config.data, config.epochs, config.width) == ("digits", 3, 99)


def test_the_stored_recipe_repeats_the_run(cli, here, tmp_path):
    cli("train", "npz:images.npz", "--output", tmp_path / "a", *TINY)
    done = cli("train", "--config", tmp_path / "a" / "config.toml", "--output", tmp_path / "b")
    assert done.exit_code == 0, done.output
    assert final_state(tmp_path / "a") == final_state(tmp_path / "b")


# --- resume ---


def test_resume_of_a_finished_run_shows_its_result(cli, here, tmp_path):
    first = cli("train", "npz:images.npz", "--output", tmp_path / "run", *TINY)
    again = cli("train", "--output", tmp_path / "run", "--resume")
    assert again.exit_code == 0, again.output
    assert again.stdout.splitlines() == first.stdout.splitlines()[2:]


def test_train_leaves_the_signal_handlers_as_they_were(cli, here, tmp_path):
    import signal

    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    cli("train", "npz:images.npz", "--output", tmp_path / "run", *TINY)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


# --- evaluate, predict, inspect ---


def test_evaluate_options(cli, here):
    mode_only = cli("evaluate", "images", "--samples", 0).stdout
    assert "mean of" not in mode_only
    one, two = (json.loads(cli("evaluate", "images", "--seed", s, "--json").stdout) for s in (0, 1))
    assert one["num_samples"] == 32
    assert one["mode"] == two["mode"]
    other = json.loads(cli("evaluate", "images", "--data", "npz:images.npz", "--json").stdout)
    assert other == one
    refused = cli("evaluate", "images.npz")
    assert "images.npz is a file, and a run is a folder" in refused.stderr


@pytest.mark.parametrize("run", ["ste", "float"])
def test_one_network_says_that_it_has_no_posterior(cli, here, run):
    for command in (("evaluate", run), ("predict", run, "x.npy")):
        assert cli(*command, "--samples", 0).exit_code == 0
        for option in (("--samples", 8), ("--seed", 1)):
            done = cli(*command, *option)
            assert done.exit_code == 2
            assert f"{option[0]} has no effect: " in done.stderr
            assert "is one network, without a posterior" in done.stderr
        assert "--seed has no effect" in cli(*command, "--samples", 0, "--seed", 1).stderr
    shown = cli("evaluate", run)
    assert shown.exit_code == 0
    assert "no posterior: this method learns one network" in shown.stdout
    assert "mean of" not in shown.stdout


def test_evaluate_with_everything(cli, here, tmp_path):
    options = (
        "--samples",
        4,
        "--ood",
        "noise",
        "--corruptions",
        "--batch-norm",
        "own",
    )
    shown = cli("evaluate", "images", *options, "--report", tmp_path / "r.html")
    assert shown.exit_code == 0, shown.output
    for word in ("noise, mean", "mutual information", "rotation", "AUROC", "networks"):
        assert word in shown.stdout
    assert "<!doctype html>" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert shown.stderr == f"report in {tmp_path / 'r.html'}\n"
    result = json.loads(cli("evaluate", "images", *options, "--json", "--no-report").stdout)
    assert (result["batch_norm"], len(result["corruptions"]["blur"])) == ("own", 6)
    assert set(result["ood"]["noise"]["mean"]) == {"entropy", "mutual_information", "max_probability"}


def test_evaluate_says_that_the_log_is_damaged_and_goes_on(cli, here, tmp_path):
    shutil.copytree(here / "images", tmp_path / "run")
    with (tmp_path / "run" / "metrics.jsonl").open("a", encoding="utf-8") as log_file:
        log_file.write('{"epoch": 2, "lo')  # as a full disk or an editor leaves it
    shown = cli("evaluate", tmp_path / "run", "--samples", 0)
    assert shown.exit_code == 0, shown.output
    note, report = shown.stderr.splitlines()
    assert re.search(
        r"^note: .*metrics\.jsonl is damaged: 1 of 2 lines cannot be read, the first is line 2; they", note
    )
    assert report.startswith("report in ")


def test_evaluate_an_ensemble_and_dropout(cli, here, tmp_path):
    train = ("train", "npz:images.npz", "--method", "ste", "--output", tmp_path / "other", *TINY)
    assert cli(*train).exit_code == 0
    result = json.loads(cli("evaluate", "ste", tmp_path / "other", "--json").stdout)
    assert (result["voters"], result["num_samples"]) == ("2 trained networks", 2)
    for option in (("--samples", 3), ("--seed", 3)):
        done = cli("evaluate", "ste", tmp_path / "other", *option)
        assert (done.exit_code, f"{option[0]} has no effect on several runs" in done.stderr) == (2, True)
    done = cli("evaluate", "ste", here / "ste")
    assert (done.exit_code, "a RUN is given twice" in done.stderr) == (2, True)
    masks = json.loads(cli("evaluate", "ste", "--voters", "dropout", "--samples", 3, "--json", "--no-report").stdout)
    assert (masks["voters"], masks["posterior"]) == ("3 dropout masks", None)


def test_predict_csv(cli, here):
    done = cli("predict", "images", "x.npy", "images.npz")
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert [r["file"] for r in rows] == ["x.npy"] * 3 + ["images.npz"] * 40
    assert [int(r["index"]) for r in rows] == [*range(3), *range(40)]
    for row in rows:
        assert row["label"] in "012"
        assert 1 / 3 <= float(row["probability"]) <= 1
        assert 0 <= float(row["mutual_information"]) <= float(row["entropy"]) + 1e-4
    assert [r["probability"] for r in rows[:3]] == [r["probability"] for r in rows[3:6]]  # the same inputs


def test_predict_json_and_mode(cli, here):
    rows = [json.loads(line) for line in cli("predict", "images", "x.npy", "x.npy", "--json").stdout.splitlines()]
    assert len(rows) == 6  # a file given twice is answered twice
    for row in rows:
        assert sum(row["probs"]) == pytest.approx(1, abs=1e-5)
        assert row["probability"] == max(row["probs"]) == row["probs"][row["label"]]
    mode = [
        json.loads(line) for line in cli("predict", "images", "x.npy", "--samples", 0, "--json").stdout.splitlines()
    ]
    assert {row["mutual_information"] for row in mode} == {0.0}


@pytest.mark.parametrize("run", ["ste", "float"])
def test_predict_without_posterior(cli, here, run):
    rows = list(csv.DictReader(cli("predict", run, "x.npy").stdout.splitlines()))
    assert {row["mutual_information"] for row in rows} == {"0.0000"}


def test_predict_agrees_with_evaluate(cli, here):
    rows = list(csv.DictReader(cli("predict", "images", "images.npz").stdout.splitlines()))
    labels = np.load("images.npz")["y_test"]
    accuracy = np.mean([int(row["label"]) == y for row, y in zip(rows, labels, strict=True)])
    assert json.loads(cli("evaluate", "images", "--json").stdout)["mean"]["accuracy"] == pytest.approx(accuracy)


def test_inspect(cli, here):
    text = cli("inspect", "images").stdout
    assert "input: float32 of shape 1×8×8 (channels, height, width), from -" in text
    assert "\nclassification: 0, 1, 2\n" in text
    assert "16×64" in text
    result = json.loads(cli("inspect", "images", "--json").stdout)
    assert result["binary_weights"] == 64 * 16 + 16 * 3
    assert result["real_parameters"] == 2 * 16 + 2 * 3 + 1
    assert result["bytes_as_bits"] == (64 * 16 + 16 * 3) // 8 + 4 * (39 + 16 + 3)  # the scales too
    assert [p["name"] for p in result["posterior"]] == ["3", "7", "total"]
    assert json.loads(cli("inspect", "ste", "--json").stdout)["posterior"] is None
    assert "no posterior: float learns one network" in cli("inspect", "float").stdout


# --- the process itself ---


def test_a_closed_pipe_ends_quietly(here, environment):
    command = f"{sys.executable} -m bayesbinn predict images {'images.npz ' * 60}| head -n 1"
    done = subprocess.run(
        command, shell=True, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.startswith("file,index,label")
    assert done.stderr == ""
