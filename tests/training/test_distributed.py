"""Two processes on gloo: DDP is the average of two draws, FSDP2 is DDP, and checkpoints fit any number of ranks."""

import copy
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from bayesbinn.data import batches, load_data
from bayesbinn.data.batches import crop_flip
from bayesbinn.errors import UserError
from bayesbinn.nn import calibrate_
from bayesbinn.training import train
from bayesbinn.training.checkpoint import load_checkpoint
from bayesbinn.training.config import make_config
from bayesbinn.training.course import StoppedError
from bayesbinn.training.distributed import World, connect, ranks
from bayesbinn.training.models import build_model
from bayesbinn.training.schedule import rate_factor
from bayesbinn.training.start import binary_, optimizer_of
from tests.pages import codes, page
from tests.runs import blobs_file, final_state, log
from tests.training.two_ranks import SETTINGS, STOP, stop_after

ROOT = Path(__file__).parents[2]


def torchrun(*arguments, processes=2):
    """The command that starts `arguments` (a script, or -m and a module) in several processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [*launcher, *map(str, arguments)]


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """Run parts of two_ranks.py, and give the folder that it works in."""
    folder = tmp_path_factory.mktemp("ranks")
    data = blobs_file(folder / "set.npz", shape=(8, 8))
    for name in ("one-ddp", "one-fsdp"):
        with pytest.raises(StoppedError):
            train({**SETTINGS, "data": data}, folder / name, callbacks=stop_after(STOP))
    train({**SETTINGS, "data": data}, folder / "one")

    def run(*parts):
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "OMP_NUM_THREADS": "1"}
        command = torchrun(ROOT / "tests" / "training" / "two_ranks.py", folder, *parts)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        return folder

    return run


@pytest.fixture(scope="module")
def folder(two_ranks):
    """With the runs ddp and fsdp."""
    return two_ranks("runs")


@pytest.fixture(scope="module")
def more(folder, two_ranks):
    """With all the runs of two_ranks.py."""
    return two_ranks("more_runs")


def models(folder, *names):
    return [load_checkpoint(folder / name)[0] for name in names]


def assert_equal(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0)


def assert_same_runs(folder, *names):
    """Every tensor bit for bit; the figures of the log to the rounding of sums of parts."""
    a, b = (final_state(folder / name) for name in names)
    for line, other in zip(a.pop("log"), b.pop("log"), strict=True):
        assert line == pytest.approx(other, rel=1e-12), names
    assert a == b, names


def averaged_by_one_process(data, settings):
    """Two networks side by side, each with the draws of a rank; their gradients averaged; no process group."""
    config = make_config({**settings, "data": data})
    loaded = load_data(data)
    torch.manual_seed(config.seed)
    first = binary_(build_model(config, loaded.input_shape, loaded.num_classes, loaded.mean, loaded.std), config)
    optimizer = optimizer_of(first, config, len(loaded.train))
    nets = [first, copy.deepcopy(first)]
    rates = [group["lr"] for group in optimizer.param_groups]
    states = []
    for rank in range(2):
        World(rank, 2).seed(config.seed)
        states.append(torch.get_rng_state())
    steps = len(loaded.train) // config.batch_size
    for step in range(config.epochs * steps):
        epoch, batch = divmod(step, steps)
        nets[1].load_state_dict(first.state_dict())
        for rank, net in enumerate(nets):
            net.zero_grad()
            torch.set_rng_state(states[rank])
            part = World(rank, 2).part
            x, y = next(batches(loaded.train, config.batch_size, config.seed, epoch, batch, part))
            F.cross_entropy(net(crop_flip(x)), y).backward()
            states[rank] = torch.get_rng_state()
        with torch.no_grad():
            for p, q in zip(*(net.parameters() for net in nets), strict=True):
                p.grad = p.grad / 2 + q.grad / 2
            for p, q in zip(*(net.buffers() for net in nets), strict=True):
                p.copy_(p / 2 + q / 2)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * rate_factor(config, step, config.epochs * steps, steps)
        optimizer.step()
    calibrate_(first, loaded.calibration(config.augment))
    return first.state_dict()


def test_ddp_equals_one_process_that_averages_the_gradients_of_both_draws(folder):
    expected = averaged_by_one_process(f"npz:{folder}/set.npz", SETTINGS)
    assert_equal(models(folder, "ddp")[0], expected)
    assert not torch.equal(expected["3.natural"], models(folder, "one")[0]["3.natural"])


@pytest.mark.parametrize("kind", ["", "-mean", pytest.param("-2", marks=pytest.mark.slow)])
def test_fsdp2_equals_ddp(request, kind):
    folder = request.getfixturevalue("more" if kind == "-2" else "folder")
    assert_same_runs(folder, f"ddp{kind}", f"fsdp{kind}")


def test_the_mean_weight_gets_statistics_for_drawn_networks_on_two_ranks(folder):
    mean, drawn = models(folder, "ddp-mean", "ddp")
    assert not torch.equal(mean["3.drawn_mean"][0], mean["4.running_mean"])
    assert mean.keys() == drawn.keys()


@pytest.mark.slow
def test_stopped_and_resumed_on_as_many_ranks_is_as_if_nothing_had_happened(more):
    assert final_state(more / "ddp-ddp") == final_state(more / "ddp")
    for name in ("ddp-fsdp", "fsdp-ddp"):
        assert_same_runs(more, "ddp", name)


@pytest.mark.slow
def test_a_run_of_one_process_goes_on_in_two(more):
    assert_same_runs(more, "one-ddp", "one-fsdp")
    assert log(more / "one-ddp")[0] == log(more / "one")[0]  # the epoch before the change


@pytest.mark.slow
def test_a_run_of_two_processes_goes_on_in_one_and_repeats(more, tmp_path):
    states = []
    for name in ("a", "b"):
        shutil.copytree(more / "fsdp-one", tmp_path / name)
        before, training, state = load_checkpoint(tmp_path / name)
        assert (state["progress"]["epoch"], state["progress"]["batch"]) == divmod(STOP, 3)
        assert {"random.cpu", "random.cpu.1"} <= training.keys()
        train({}, tmp_path / name, resume=True)
        states.append(final_state(tmp_path / name))
        assert "t/random.cpu.1" not in states[-1]
        assert before.keys() <= load_checkpoint(tmp_path / name)[0].keys()
    assert states[0] == states[1]
    assert log(tmp_path / "a")[0] == log(more / "ddp")[0]


@pytest.mark.slow
def test_a_loss_of_nan_on_one_rank_stops_all_with_one_message(two_ranks):
    folder = two_ranks("nan_on_one_rank")
    message = (folder / "nan-0.txt").read_text()
    assert message.startswith("UserError: the loss became nan around step 3 of 9: training stopped, the last good")
    assert (folder / "nan-1.txt").read_text() == "PeerError: "
    model, _, state = load_checkpoint(folder / "nan")
    assert state["progress"]["epoch"] == 1
    assert all(bool(tensor.isfinite().all()) for tensor in model.values())
    # and an error of one rank is told by that rank
    assert (folder / "lost-0.txt").read_text() == "PeerError: "
    assert "UserError: rank 1 on " in (folder / "lost-1.txt").read_text()
    assert not (folder / "lost").exists()


@pytest.mark.slow
def test_every_method_is_the_same_under_ddp_and_fsdp2(two_ranks):
    folder = two_ranks("library")
    for rank in (0, 1):
        assert (folder / f"library-{rank}.txt").read_text() == "all pairs"


# --- without other processes ---


def test_a_world_of_one():
    world, value = World(), torch.tensor([1.0, 2.0])
    world.sum_(value)
    assert value.tolist() == [1.0, 2.0]
    assert [world.any(flag) for flag in (False, True)] == [False, True]
    assert world.gather(value) == [value]
    assert torch.equal(world.part(value), value)
    net = torch.nn.Linear(1, 1)
    assert world.wrap(net) is net
    with connect() as found:
        assert found == world
    assert not torch.distributed.is_initialized()


def test_shares_make_the_batch():
    batch = torch.arange(12)
    assert torch.equal(torch.cat([World(rank, 3).part(batch) for rank in range(3)]), batch)


def test_every_rank_has_a_stream_of_its_own():
    draws = []
    for arguments in ((0, 0), (0, 1), (1, 0)):
        World(arguments[0], 2).seed(arguments[1])
        draws.append(torch.rand(4))
    World(0, 2).seed(0, 1)
    draws.append(torch.rand(4))
    assert len({tuple(draw.tolist()) for draw in draws}) == 4


def test_what_is_asked_wrongly(monkeypatch):
    with pytest.raises(UserError, match="sharding 'full' splits λ over several processes and this is the only one"):  # noqa: SIM117
        with connect("full"):
            pass
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"WORLD_SIZE is 2 but RANK, LOCAL_RANK, .* is not set: start with torchrun"):
        ranks()
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(UserError, match="WORLD_SIZE must be a whole number, as torchrun sets it, got 'many'"):
        ranks()


@pytest.mark.slow
def test_the_loop_in_the_documentation_runs(tmp_path):
    (code,) = codes(page("distributed.md"), "python")
    (tmp_path / "own_loop.py").write_text(code, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = torchrun(tmp_path / "own_loop.py")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    one, two = re.findall(r"^sharded \w+: (\d+ weights, KL [\d.]+)$", done.stdout, re.MULTILINE)
    assert one == two
    assert one.startswith(f"{8 * 64 + 64 * 3} weights")
