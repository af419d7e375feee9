"""One optimizer for a whole network: the same steps as its parts, and everything that expects one torch optimizer."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from bayesbinn import BayesBiNN, binarize_, optimizer_for, split_parameters
from bayesbinn.binarizers import SignSTE
from bayesbinn.optim import NetworkOptimizer


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return binarize_(nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)))


def steps(net: nn.Module, *optimizers: torch.optim.Optimizer, count: int = 5, first: int = 0) -> None:
    for t in range(first, first + count):
        torch.manual_seed(t)
        x, y = torch.randn(8, 6), torch.randint(3, (8,))
        F.cross_entropy(net(x), y).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def test_it_steps_as_its_parts_do() -> None:
    ours, theirs = network(), network()
    steps(ours, optimizer_for(ours, num_data=100, lr=0.05, kl_weight=0.2, form="tensor", momentum=0.5, real_lr=0.02))
    binary, real = split_parameters(theirs)
    rule = BayesBiNN(binary, 0.05, num_data=100, kl_weight=0.2, form="tensor", momentum=0.5)
    steps(theirs, rule, torch.optim.Adam(real, 0.02))
    assert same(ours, theirs)


@pytest.mark.parametrize("kind", ["binary", "real"])
def test_a_network_of_one_kind_is_no_special_case(kind: str) -> None:
    layers = nn.Sequential(nn.Linear(6, 4, bias=False), nn.ReLU(), nn.Linear(4, 3, bias=False))
    net = binarize_(layers, scale="none") if kind == "binary" else layers
    optimizer = optimizer_for(net, num_data=10)
    before = copy.deepcopy(net.state_dict())
    steps(net, optimizer)
    assert len(optimizer.parts) == 1
    assert not any(torch.equal(v, net.state_dict()[k]) for k, v in before.items())
    optimizer.temper_(0.5)
    optimizer.set_prior_to_posterior()
    assert optimizer.kl_divergence() == 0
    with pytest.raises(KeyError, match="no Bayesian rule"):
        optimizer.prior_of(torch.zeros(3))


def test_without_parameters_it_says_so() -> None:
    with pytest.raises(ValueError, match="there are no parameters to learn"):
        optimizer_for(nn.ReLU(), num_data=10)


@pytest.mark.parametrize("way", ["state_dict", "deepcopy"])
def test_it_resumes_bit_for_bit(way: str) -> None:
    net = network()
    optimizer = optimizer_for(net, num_data=100)
    schedule = CosineAnnealingLR(optimizer, 20)
    steps(net, optimizer, count=3)
    schedule.step()
    optimizer.set_prior_to_posterior(0.5)
    steps(net, optimizer, count=3, first=3)
    if way == "deepcopy":
        twin, resumed = copy.deepcopy((net, optimizer))
    else:
        twin = network(seed=1)
        resumed = optimizer_for(twin, num_data=7, lr=0.9, real_lr=0.9)
        file = io.BytesIO()
        torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=True)
        twin.load_state_dict(loaded["net"])
        resumed.load_state_dict(loaded["optimizer"])
    for o, n in ((optimizer, net), (resumed, twin)):
        o.temper_(0.9)
        steps(n, o, count=3, first=6)
    assert same(net, twin)
    assert resumed.kl_divergence() == optimizer.kl_divergence() > 0
    assert [g["lr"] for g in resumed.param_groups] == [g["lr"] for g in optimizer.param_groups]


def test_a_checkpoint_of_another_network_is_refused() -> None:
    net, other = network(), binarize_(nn.Sequential(nn.Linear(6, 3, bias=False)), scale="none")
    with pytest.raises(ValueError, match=r"groups hold \[1\] parameters, the optimizer's \[2, 6\]"):
        optimizer_for(net, num_data=10).load_state_dict(optimizer_for(other, num_data=10).state_dict())
    with pytest.raises(ValueError, match="add the group to a part"):
        optimizer_for(net, num_data=10).add_param_group({"params": []})


def test_a_scheduler_clipping_and_a_gradient_scaler_see_one_optimizer() -> None:
    net = network()
    optimizer = optimizer_for(net, num_data=100)
    schedule = CosineAnnealingLR(optimizer, 10)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    reference = network()
    plain = optimizer_for(reference, num_data=100)
    for t in range(4):
        for n, o in ((net, optimizer), (reference, plain)):
            torch.manual_seed(t)
            loss = F.cross_entropy(n(torch.randn(8, 6)), torch.randint(3, (8,)))
            if o is optimizer:
                scaler.scale(loss).backward()
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(net.parameters(), 100.0)
                scaler.step(optimizer)
                scaler.update()
            else:
                loss.backward()
                plain.step()
            o.zero_grad()
        schedule.step()
        for group, twin in zip(plain.param_groups, optimizer.param_groups, strict=True):
            group["lr"] = twin["lr"]
    for k, v in net.state_dict().items():
        torch.testing.assert_close(v, reference.state_dict()[k], rtol=1e-4, atol=1e-5)
    assert optimizer.parts[0].param_groups[0]["lr"] < 0.3  # the parts follow the schedule


def test_a_closure_is_called_once() -> None:
    net = network()
    optimizer = optimizer_for(net, num_data=100)
    calls = []

    def closure() -> torch.Tensor:
        calls.append(1)
        optimizer.zero_grad()
        loss = F.cross_entropy(net(torch.randn(8, 6)), torch.randint(3, (8,)))
        loss.backward()
        return loss

    assert optimizer.step(closure).item() > 0
    assert len(calls) == 1


def test_several_rules_have_their_own_priors() -> None:
    net = network()
    naturals, real = split_parameters(net)
    rules = [BayesBiNN([p], 0.1, num_data=10, prior=v) for p, v in zip(naturals, (1.0, -1.0), strict=True)]
    optimizer = NetworkOptimizer(*rules, torch.optim.SGD(real, 0.1))
    assert [optimizer.prior_of(p) for p in naturals] == [1.0, -1.0]
    assert float(optimizer.kl_divergence()) == pytest.approx(sum(float(r.kl_divergence()) for r in rules))


def test_latent_weights_without_a_posterior_are_refused() -> None:
    net = binarize_(nn.Sequential(nn.Linear(4, 3)), binarizer=SignSTE())
    with pytest.raises(ValueError, match=r"binarizer SignSTE\(clip=1.0\), which keeps no posterior"):
        optimizer_for(net, num_data=10)
