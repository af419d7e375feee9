"""Runs of text through the one engine: figures, resuming, parts of an epoch and of a batch, two processes, methods."""

import json
import math
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner, Result

import bayesbinn as bb
from bayesbinn.cli import main
from bayesbinn.data import load_text
from bayesbinn.errors import UserError
from bayesbinn.evaluation.text import detection, measure_tokens
from bayesbinn.nn import likelihood_of
from bayesbinn.text import steps_of
from bayesbinn.training import load_run, train
from bayesbinn.training.course import StoppedError
from tests.runs import contents, final_state, log
from tests.training.test_distributed import torchrun
from tests.training.two_ranks import stop_after

ROOT = Path(__file__).parents[2]
SMALL = {"model": "gpt", "width": 16, "depth": 1, "heads": 2, "kv_heads": 1, "feed_forward": 24, "context": 8}
SETTINGS: dict[str, Any] = {**SMALL, "batch_size": 16, "epochs": 2, "samples": 4, "lr": 0.3}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("".join(f"{i} and {i + 1} make {2 * i + 1}, " for i in range(260)))
    return f"text:{file}"


def test_a_run_of_text_from_training_to_words(text: str, tmp_path: Path) -> None:
    result = train({**SETTINGS, "data": text, "epochs": 4, "magnitude": 0.5, "lr": 1.0}, tmp_path / "run")
    first, *_, last = log(tmp_path / "run")
    assert 8.5 > first["bits_per_byte"] > last["bits_per_byte"]
    assert last["test_bits_per_byte"] < 5
    assert result["task"] == "text"
    assert result["train_tokens_per_second"] > 0
    for which in ("mode", "mean"):
        found = result[which]
        assert found["bits_per_byte"] == pytest.approx(found["nll"] / math.log(2))
        assert found["perplexity"] == pytest.approx(math.exp(found["nll"]))
    assert [point["samples"] for point in result["curve"]] == [0, 1, 2, 4]
    assert result["mode"]["bits_per_byte"] == pytest.approx(last["test_bits_per_byte"], rel=1e-5)
    assert "Bits per byte" in (tmp_path / "run" / "report.html").read_text()
    net, config, description = load_run(tmp_path / "run")
    assert (description["input_shape"], description["num_outputs"], config.context) == ((8,), 256, 8)
    assert likelihood_of(net).task == "text"
    (alone,), drawn = steps_of(net), steps_of(net, 2, seed=1)
    x = load_text(text, 8).test.x[:1]
    own, whole = torch.from_numpy(alone.prompt(x[0].tolist())), net(x)[0, -1].detach()
    torch.testing.assert_close(own, whole, rtol=1e-4, atol=1e-5)
    assert not (drawn[0].prompt([1, 2]) == drawn[1].prompt([1, 2])).all()


def test_what_is_measured_of_tokens_is_what_the_draws_say(text: str) -> None:
    data = load_text(text, 8)
    net = bb.training.models.build_model(bb.training.config.make_config(SMALL), (8,), 256)
    bb.binarize_(net, magnitude=0.3, quiet=True)
    found = measure_tokens(net.eval(), data.test, num_samples=3, seed=5)
    outputs = list(bb.prediction.posterior_outputs(net, data.test.x[:], 3, seed=5))
    probs = torch.stack(outputs).softmax(-1)
    mean = probs.mean(0)
    expected = -mean.gather(-1, data.test.y[:][..., None])[..., 0].log()
    torch.testing.assert_close(found.nll_of[2], expected, rtol=1e-4, atol=1e-5)
    entropy = -(mean * mean.log()).sum(-1)
    own = -(probs * probs.log()).sum(-1).mean(0)
    torch.testing.assert_close(found.mean_entropy, entropy, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.mutual_information, entropy - own, rtol=1e-3, atol=1e-5)
    nll = F.cross_entropy(net(data.test.x[:]).flatten(0, 1), data.test.y[:].flatten())
    assert float(found.nll.mean()) == pytest.approx(float(nll.detach()), rel=1e-5)


def test_text_of_another_kind_is_told_by_windows() -> None:
    within, outside = torch.rand(20, 10), torch.rand(20, 10) + 0.2
    assert detection(within, outside, 5) > detection(within, outside, 1) > 0.5
    assert detection(within, within + 2, 10) == 1


PARTS = {"embedding": "binary", "epoch_size": 320, "micro_batch": 4}


@pytest.mark.parametrize("more", [{"precision": "bfloat16"}, PARTS])
def test_stopped_and_resumed_is_as_if_nothing_had_happened(text: str, tmp_path: Path, more: dict[str, Any]) -> None:
    settings = {**SETTINGS, **more, "data": text}
    train(settings, tmp_path / "whole")
    for steps in (3, 13):
        with pytest.raises(StoppedError):
            train(settings, tmp_path / "parts", resume=True, callbacks=stop_after(steps))
    train(settings, tmp_path / "parts", resume=True)
    assert final_state(tmp_path / "parts") == final_state(tmp_path / "whole")


def test_parts_of_an_epoch_pass_over_everything_once(text: str, tmp_path: Path) -> None:
    """A whole epoch is the epochs of its parts, one after the other, at a constant rate."""
    same = {**SETTINGS, "data": text, "schedule": "constant", "method": "ste"}
    size = len(load_text(text, 8).train) // 2 // 16 * 16
    train({**same, "epochs": 2, "epoch_size": size}, tmp_path / "parts")
    train({**same, "epochs": 1, "epoch_size": 2 * size}, tmp_path / "whole")
    nets = [load_run(tmp_path / name)[0].state_dict() for name in ("parts", "whole")]
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])


def test_a_batch_in_parts_has_the_gradient_of_the_whole(text: str, tmp_path: Path) -> None:
    same = {**SETTINGS, "data": text, "method": "float", "epochs": 1}
    del same["lr"]
    nets = []
    for micro in (0, 5):
        train({**same, "micro_batch": micro}, tmp_path / f"{micro}")
        nets.append(load_run(tmp_path / f"{micro}")[0].state_dict())
    for name in nets[0]:
        torch.testing.assert_close(nets[0][name], nets[1][name], rtol=1e-3, atol=1e-4)


def test_two_processes_are_one(text: str, tmp_path: Path) -> None:
    """Without draws, that differ by design: every rank has half of each batch, and the log and the network agree."""
    same = {**SETTINGS, "data": text, "method": "float", "epochs": 1}
    del same["lr"]
    train(same, tmp_path / "one")
    arguments = [f"--{k.replace('_', '-')}={v}" for k, v in same.items() if k != "data"]
    command = torchrun("-m", "bayesbinn", "train", text, *arguments, "--output", tmp_path / "two", "--quiet")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    one, two = (load_run(tmp_path / name)[0].state_dict() for name in ("one", "two"))
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-4)
    for a, b in zip(log(tmp_path / "one"), log(tmp_path / "two"), strict=True):
        assert a == pytest.approx(b, rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "mlp"}, r"model 'mlp' does not learn from data 'text:.*': take --model gpt"),
        ({"data": "digits"}, "model 'gpt' does not learn from data 'digits': take text:FILE"),
        ({"context": 1000}, "the test part of .* has .* tokens, a window takes 1000 and one more"),
        ({"heads": 3}, "model 'gpt': width 16 is not an even number for each of 3 heads"),
        ({"class_weight": "balanced"}, "class_weight 'balanced' is for classes, .* is for text: leave it out"),
        ({"batch_size": 4000}, "batch_size 4000 exceeds the .* training examples: lower it"),
        ({"epoch_size": 8}, "batch_size 16 exceeds the 8 training examples: lower it"),
    ],
)
def test_what_cannot_be_trained(text: str, tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    known = {**SETTINGS, "data": text, **settings}
    known = {k: v for k, v in known.items() if known["model"] == "gpt" or k not in SMALL or k in ("model", "width")}
    with pytest.raises(UserError, match=message):
        train(known, tmp_path / "run")
    assert not contents(tmp_path)


def bayesbinn(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_commands(text: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train({**SETTINGS, "data": text}, run)
    asked = "generate", run, "--prompt", "1 and", "--length", 20, "--seed"
    one, again, other = (bayesbinn(*asked, seed) for seed in (1, 1, 2))
    assert one.exit_code == 0, one.output
    assert one.stdout.startswith("1 and")
    assert one.stdout == again.stdout != other.stdout
    lines = bayesbinn("generate", run, "--length", 3, "--samples", 2, "--json").stdout.splitlines()
    assert [sorted(json.loads(line)) for line in lines] == [
        ["entropy", "mutual_information", "probability", "text", "token"]
    ] * 3
    evaluated = bayesbinn("evaluate", run, "--samples", 2)
    assert evaluated.exit_code == 0, evaluated.output
    assert "bits per byte" in evaluated.stdout
    elsewhere = tmp_path / "other.txt"
    elsewhere.write_text("other words " * 100)
    assert "bits per byte" in bayesbinn("evaluate", run, "--data", f"text:{elsewhere}").stdout
    for arguments, message in (
        (("generate", run, "--prompt", ""), "error: the prompt is empty"),
        (("generate", run, "--temperature", "-1"), "error: temperature must be a number from 0, got -1.0"),
        (("generate", tmp_path), "error: .* holds no run"),
        (("predict", run, elsewhere), "error: .*generate"),
        (
            ("evaluate", run, "--corruptions"),
            "error: corruptions compares class .*, this network predicts text",
        ),
    ):
        done = bayesbinn(*arguments)
        assert done.exit_code == 2, done.output
        assert re.search(message, done.output), done.output


def test_a_run_that_starts_from_another_with_its_posterior_as_the_prior(text: str, tmp_path: Path) -> None:
    first, other = tmp_path / "first", tmp_path / "other.txt"
    train({**SETTINGS, "data": text}, first)
    other.write_text("quite another text, " * 300)
    same = {**SETTINGS, "data": f"text:{other}", "start": str(first), "epochs": 1}
    mode = load_run(first)[0].state_dict()
    distance = {}
    for name, more in (("free", {}), ("bound", {"prior": "start", "kl_weight": 1e6, "form": "plain", "lr": 0.01})):
        train({**same, **more}, tmp_path / name)
        now = load_run(tmp_path / name)[0].state_dict()
        distance[name] = sum(float((now[k] - mode[k]).abs().mean()) for k in mode if k.endswith("natural"))
    assert distance["free"] > 0.1
    assert distance["bound"] < 0.1 * distance["free"]
    assert log(tmp_path / "bound")[-1]["kl"] < log(tmp_path / "free")[-1]["kl"]
    train({**same, "epochs": 1}, tmp_path / "free", resume=True)  # it is at its end, and starts nothing anew


def test_what_cannot_be_started_from(text: str, tmp_path: Path) -> None:
    train({**SETTINGS, "data": text, "epochs": 1}, tmp_path / "first")
    for settings, message in (
        ({"start": str(tmp_path / "none")}, "none holds no run"),
        ({"start": str(tmp_path / "first"), "depth": 2}, "checkpoint of .* is of another network"),
        ({"prior": "start"}, "prior 'start' is the posterior of a run: name it by --start RUN"),
    ):
        with pytest.raises(UserError, match=message):
            train({**SETTINGS, "data": text, **settings}, tmp_path / "run")
