"""What two processes do for `test_distributed.py`: torchrun runs this file, with the folder that holds the data."""

import os
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import bayesbinn as bb
from bayesbinn import shards
from bayesbinn.errors import UserError
from bayesbinn.nn import binary_layers
from bayesbinn.training import train
from bayesbinn.training.course import Callbacks, StoppedError
from bayesbinn.training.distributed import PeerError, connect
from bayesbinn.training.loop import Trainer
from tests.contract.pairs import PAIRS
from tests.runs import TINY

RANK = int(os.environ.get("RANK", 0))
# per weight: a sum over a tensor comes in another order where λ is split, so that the last bits would differ
SETTINGS = {**TINY, "estimator": "draw", "epochs": 3, "form": "weight", "momentum": 0.5, "augment": "crop-flip"}
STOP = 5  # steps, of 9


def stop_after(steps, only=None):
    done = [0]

    def step(now, total):
        done[0] = now

    return Callbacks(step=step, stop=lambda: done[0] >= steps and only in (None, RANK))


def no_thread_of_gloo():
    """None is left after `connect`: it could meet an ending Python, which ends the process."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    assert names
    assert "pt_gloo_runloop" not in names


def runs(folder):
    settings = {**SETTINGS, "data": f"npz:{folder}/set.npz"}
    assert (train(settings, folder / "ddp") == {}) == (RANK > 0)
    train(settings, folder / "fsdp", sharding="full")
    for name, sharding in (("ddp-mean", "none"), ("fsdp-mean", "full")):
        train({**settings, "estimator": "mean", "cooling": 1.0}, folder / name, sharding=sharding)


def more_runs(folder):
    """Two samples a step, and runs that stop and go on in another way."""
    settings = {**SETTINGS, "data": f"npz:{folder}/set.npz"}
    train({**settings, "train_samples": 2}, folder / "ddp-2")
    train({**settings, "train_samples": 2}, folder / "fsdp-2", sharding="full")
    for name, first, then in (
        *(("ddp-ddp", "none", "none"), ("ddp-fsdp", "none", "full"), ("fsdp-ddp", "full", "none")),
        ("fsdp-one", "full", None),
    ):
        try:  # one rank hears of the signal: all stop
            train(settings, folder / name, sharding=first, callbacks=stop_after(STOP, only=1))
        except StoppedError:
            if then is not None:
                train(settings, folder / name, resume=True, sharding=then)
    train({}, folder / "one-ddp", resume=True)
    train({}, folder / "one-fsdp", resume=True, sharding="full")


def nan_on_one_rank(folder):
    settings = {**SETTINGS, "data": f"npz:{folder}/set.npz"}
    evaluate = Trainer._evaluate

    def poisoned(self, x, y, logits):
        loss = evaluate(self, x, y, logits)
        return loss * float("nan") if RANK == 1 and self.progress.epoch == 1 else loss

    Trainer._evaluate = poisoned
    try:
        train(settings, folder / "nan")
    except (UserError, PeerError) as error:
        (folder / f"nan-{RANK}.txt").write_text(f"{type(error).__name__}: {error}")
    Trainer._evaluate = evaluate
    try:  # what only one rank finds wrong
        train({**settings, "data": f"npz:{folder}/{'none' if RANK else 'set'}.npz"}, folder / "lost")
    except (UserError, PeerError) as error:
        (folder / f"lost-{RANK}.txt").write_text(f"{type(error).__name__}: {error}")


def network(pair):
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(27, 7), nn.BatchNorm1d(7), nn.Tanh(), nn.Linear(7, 3)]
    return bb.binarize_(nn.Sequential(*layers), binarizer=pair.make_binarizer())


def trained(pair, sharded):
    net = network(pair)
    model = net
    if sharded:
        mesh = init_device_mesh("cpu", (2,))
        for _, layer in binary_layers(net):
            fully_shard(layer, mesh=mesh)
        fully_shard(net, mesh=mesh, reshard_after_forward=True)
    else:
        model = DistributedDataParallel(net)
    binary, real = bb.split_parameters(net)
    optimizers = [pair.make_optimizer(binary), torch.optim.SGD(real, 0.01)]
    torch.manual_seed(10 + RANK)
    before = bb.posterior_summary(net)
    for _ in range(3):
        x, y = torch.randn(4, 1, 5, 5), torch.randint(3, (4,))
        F.cross_entropy(model(x), y).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    return net, optimizers[0], before


def assert_same(a, b, **tolerance):
    assert a.keys() == b.keys()
    for k in a:
        torch.testing.assert_close(shards.whole(a[k]), shards.whole(b[k]), **(tolerance or {"rtol": 0, "atol": 0}))


def pairs_agree():
    """In a function of its own: a network that outlives the group would keep its threads."""
    for pair in PAIRS:
        (plain, rule, before), (split, split_rule, split_before) = (trained(pair, s) for s in (False, True))
        assert not any(shards.is_split(p) for p in plain.parameters())
        assert all(shards.is_split(p) for p in split.parameters())
        # running statistics are each rank's own; sigmoids of parts are vectorised in another way than of the whole,
        # and a mean over a tensor, or over its rows, is added up in another order
        states = [{k: v for k, v in n.state_dict().items() if "running" not in k} for n in (plain, split)]
        rounded = pair.name in ("bimu", "palimpsest", "bayesbinn-tensor", "bayesbinn-factored")
        assert_same(*states, **({"rtol": 1e-5, "atol": 1e-6} if rounded else {}))
        if rounded:
            continue
        if isinstance(rule, bb.BayesBiNN):
            assert 0 < float(rule.kl_divergence()) == pytest.approx(float(split_rule.kl_divergence()))
            summary = (
                bb.posterior_summary(plain, rule, before),
                bb.posterior_summary(split, split_rule, split_before),
            )
            assert str(summary[0]) == str(summary[1])
            assert summary[0].total.flip_rate is not None
            for r in (rule, split_rule):
                r.set_prior_to_posterior(0.5)
            assert 0 < float(rule.kl_divergence()) == pytest.approx(float(split_rule.kl_divergence()))
        draws = [bb.posterior.draw(net, torch.Generator().manual_seed(1)) for net in (plain, split)]
        assert_same(*draws)
        for norm, twin in zip(plain.modules(), split.modules(), strict=True):
            for buffer, other in zip(norm.buffers(False), twin.buffers(False), strict=True):
                other.copy_(buffer)
        x = torch.randn(5, 1, 5, 5, generator=torch.Generator().manual_seed(3))
        samples = 3 if plain[0].binarizer.has_posterior else 0
        assert torch.equal(*(bb.predict(net, x, samples).probs for net in (plain, split)))


def library(folder):
    """FSDP2 equals DDP for every method, bit for bit, and so does all that is said about the posterior."""
    with connect():
        pairs_agree()
    (folder / f"library-{RANK}.txt").write_text("all pairs")


if __name__ == "__main__":
    # an editable install of another checkout would come before this one
    assert Path(bb.__file__).is_relative_to(Path(__file__).parents[2] / "src"), bb.__file__
    torch.set_num_threads(1)
    for part in sys.argv[2:]:
        globals()[part](Path(sys.argv[1]))
        no_thread_of_gloo()
