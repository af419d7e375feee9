"""Several posteriors from one run: what is kept, how it is asked, what is refused."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import bayesbinn as bb
from bayesbinn.cli import main
from bayesbinn.errors import UserError
from bayesbinn.nn import Mixture
from bayesbinn.training import load_run, train
from bayesbinn.training.checkpoint import load_checkpoint
from bayesbinn.training.config import make_config
from bayesbinn.training.course import Callbacks, StoppedError
from tests.runs import TINY, blobs_file, final_state, log


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return blobs_file(tmp_path_factory.mktemp("data") / "blobs.npz")


def settings(data: str, **more: Any) -> dict[str, Any]:
    return {**TINY, "data": data, "modes": 3, "epochs": 6, "cooling": 10.0, "estimator": "mean", "lr": 3.0, **more}


def stop_after(steps: int) -> Callbacks:
    """Callbacks that ask to stop once so many steps are done, of all cycles together."""
    done: list[int] = []
    return Callbacks(step=lambda now, total: done.append(now), stop=lambda: len(done) >= steps)


def test_each_cycle_leaves_a_posterior_and_all_are_averaged(data: str, tmp_path: Path) -> None:
    result = train(settings(data), tmp_path / "run")
    assert [line["epoch"] for line in log(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]
    net, config, _ = load_run(tmp_path / "run")
    assert isinstance(net, Mixture)
    assert len(net.members) == config.modes == 3
    x = torch.randn(20, 8, generator=torch.Generator().manual_seed(1))
    naturals = [next(layer.natural for _, layer in bb.nn.binary_layers(m)) for m in net.members]
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(naturals))
    generator = torch.Generator().manual_seed(0)
    wanted = torch.zeros(20, 3)
    for i in range(7):  # a slow twin: one draw after the other, each with the statistics of its own
        member = net.members[i % 3]
        weights = bb.nn.draw(member, generator)
        with (
            bb.nn.batch_norm.in_force(bb.nn.batch_norm.statistics_of(member, "draws", 0)(i)),
            bb.nn.draws.fixed_weights(member, weights),
            torch.no_grad(),
        ):
            wanted += member(x).softmax(-1) / 7
    torch.testing.assert_close(bb.predict(net, x, 7).probs, wanted)
    assert torch.equal(bb.predict(net, x, 0).probs, bb.predict(net.members[2], x, 0).probs)
    moments = [bb.predict(m, x, "moments").probs for m in net.members]
    torch.testing.assert_close(bb.predict(net, x, "moments").probs, sum(moments) / 3)
    assert result["voters"] == "4 posterior samples"


def test_the_next_cycle_begins_as_warm_as_the_first(data: str, tmp_path: Path) -> None:
    train(settings(data, epochs=9, cooling=100.0, schedule="constant", lr=1.0), tmp_path / "run")  # 5, 2 and 2
    entropy = [line["entropy"] for line in log(tmp_path / "run")]
    assert entropy[0] > entropy[4] < entropy[5] > entropy[6] < entropy[7] > entropy[8]
    group = load_checkpoint(tmp_path / "run")[2]["optimizer"]["param_groups"][0]
    assert group["kl_weight"] == pytest.approx(make_config({}).method_options.kl_weight)


def test_stopped_anywhere_and_resumed_is_as_if_nothing_had_happened(data: str, tmp_path: Path) -> None:
    train(settings(data), tmp_path / "straight")
    wanted = final_state(tmp_path / "straight")
    for steps in (1, 12, 13, 16):  # three steps an epoch, cycles of 4, 1 and 1: within one, at its end, behind it
        run = tmp_path / f"after-{steps}"
        with pytest.raises(StoppedError):
            train(settings(data), run, callbacks=stop_after(steps))
        assert isinstance(load_run(run)[0], Mixture) == (steps >= 12)
        train({}, run, resume=True)
        assert final_state(run) == wanted


def test_a_method_without_a_posterior_gives_an_ensemble_of_snapshots(data: str, tmp_path: Path) -> None:
    made = {**settings(data), "method": "ste"}
    result = train({k: v for k, v in made.items() if k not in ("cooling", "estimator")}, tmp_path / "run")
    assert (result["voters"], result["num_samples"]) == ("3 trained networks", 3)
    net, _, _ = load_run(tmp_path / "run")
    assert isinstance(net, Mixture)
    x = torch.randn(5, 8)
    each = [bb.predict(m, x, 0).probs for m in net.members]
    voters = bb.evaluation.voters.make_voters([net], 32)
    torch.testing.assert_close(voters.best(x).probs, sum(each) / 3)
    assert torch.equal(voters.mode(x).probs, each[-1])


def test_networks_that_were_trained_apart_are_a_mixture_too() -> None:
    nets = [bb.fit("mlp", "digits", epochs=1, width=16, depth=1, samples=2, seed=seed).net for seed in (0, 1)]
    x = torch.rand(6, 1, 8, 8) * 16
    each = [bb.predict(net, x, 0).probs for net in nets]
    assert torch.equal(bb.predict(Mixture(nets), x, 0).probs, each[1])
    assert bb.predict(Mixture(nets), x, 8).mutual_information.max() > 0
    bb.calibrate_(Mixture(nets), x)
    with pytest.raises(ValueError, match="at least one network, got none"):
        Mixture([])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"epochs": 2}, "modes 3 take an epoch each, got epochs 2: give at least 3"),
        ({"modes": 0}, "modes must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused(data: str, tmp_path: Path, more: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        train(settings(data, **more), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_start_is_one_posterior(data: str, tmp_path: Path) -> None:
    train(settings(data), tmp_path / "run")
    with pytest.raises(UserError, match="holds 3 posteriors, and a start is one"):
        train({**TINY, "data": data, "epochs": 1, "start": str(tmp_path / "run")}, tmp_path / "next")


def test_commands_take_a_run_with_several_posteriors(data: str, tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    words = ["train", data, "--modes", "2", "--epochs", "2", "--width", "16", "--depth", "1", "--output", run]
    for command in (words, ["evaluate", run, "--samples", "4"], ["inspect", run]):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
    assert "2 posteriors" in done.output
    for samples, said in (("0", "holds the mode of the last"), ("1", "holds 1 of them"), ("2", "")):
        done = CliRunner().invoke(main, ["export", run, "--samples", samples, "--output", f"{run}-{samples}.bbnn"])
        assert done.exit_code == 0, done.output
        assert ("the run has 2 networks" in done.output, said in done.output) == (bool(said), True)
    refused = CliRunner().invoke(main, ["continual", "permuted-digits", "--modes", "2", "--output", run + "2"])
    assert (refused.exit_code, "leave modes out" in refused.output) == (2, True)
