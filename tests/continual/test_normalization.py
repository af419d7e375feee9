"""What batch norm remembers of each task."""

import copy

import pytest
import torch
from torch import nn

from bayesbinn import binarize_
from bayesbinn.continual import TaskBatchNorm, normalize_, set_task


def network() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Linear(16, 8, bias=False), nn.BatchNorm1d(8, affine=False), nn.ReLU()),
        *(nn.Linear(8, 4, bias=False), nn.BatchNorm1d(4, affine=False)),
    )


def test_each_task_has_the_statistics_of_its_own_batch_norm() -> None:
    data = [torch.randn(64, 16), torch.randn(64, 16) * 3 + 1]
    net = normalize_(network(), "task", num_tasks=2)
    twins = [network() for _ in data]
    for twin in twins:
        twin[0].weight, twin[3].weight = net[0].weight, net[3].weight
    for t in (0, 1, 0):  # task 1 in between changes nothing for task 0
        set_task(net, t)
        assert torch.equal(net(data[t]), twins[t](data[t]))
    for t in (0, 1):
        set_task(net, t)
        assert torch.equal(net.eval()(data[0]), twins[t].eval()(data[0]))


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm])
@pytest.mark.parametrize("momentum", [None, 0.3])
def test_a_task_keeps_all_settings_of_the_module_it_replaces(kind, momentum) -> None:
    settings = {"eps": 0.1, "momentum": momentum, "dtype": torch.float64}
    norm = kind(4, **settings).requires_grad_(False)
    norm.weight.fill_(3)
    norm.bias.fill_(2)
    x = torch.randn(16, 4, *[2] * {nn.BatchNorm2d: 2, nn.BatchNorm3d: 3}.get(kind, 1), dtype=torch.float64)
    for _ in range(3):
        norm(x + 1)
    norm.eval()
    net, twin = normalize_(nn.Sequential(copy.deepcopy(norm)), "task", num_tasks=2), copy.deepcopy(norm)
    assert not net[0].training
    assert not any(p.requires_grad for p in net.parameters())
    assert torch.equal(net(x), twin(x))
    set_task(net, 1)
    for _ in range(3):
        assert torch.equal(net.train()(x), twin.train()(x))
    assert torch.equal(net.eval()(x), twin.eval()(x))
    set_task(net, 0)
    assert torch.equal(net(x), norm(x))
    assert len(list(net.parameters())) == 2


def test_the_reported_fault() -> None:
    net = normalize_(nn.Sequential(nn.Linear(16, 4), nn.BatchNorm1d(4, momentum=None)), "task", num_tasks=2)
    x = 5 * torch.randn(64, 16)
    net(x)
    assert torch.allclose(net[1].norms[0].running_var, net[0](x).var(0))


def test_layer_norm_keeps_what_it_can() -> None:
    first = nn.BatchNorm1d(8, eps=0.1, dtype=torch.float64)
    nn.init.constant_(first.weight, 3.0)
    net = nn.Sequential(nn.Linear(16, 8), first, nn.Linear(8, 4), nn.BatchNorm1d(4)).double().eval()
    layer = normalize_(net, "layer", num_tasks=2)[1]
    assert (layer.eps, layer.weight.dtype, layer.training) == (0.1, torch.float64, False)
    assert layer.weight is first.weight


def test_statistics_survive_a_state_dict() -> None:
    net = normalize_(network(), "task", num_tasks=3)
    set_task(net, 2)
    net(torch.randn(64, 16))
    other = normalize_(network(), "task", num_tasks=3)
    other.load_state_dict(net.state_dict())
    set_task(other, 2)
    x = torch.randn(5, 16)
    assert torch.equal(net.eval()(x), other.eval()(x))


@pytest.mark.parametrize("statistics", ["layer", "none"])
def test_without_statistics_an_example_does_not_feel_its_batch(statistics) -> None:
    net = binarize_(normalize_(network(), statistics, num_tasks=1), scale="fan_in").eval()
    x = torch.randn(32, 16)
    assert torch.allclose(net(x)[:1], net(x[:1]), atol=1e-6)
    assert not net.state_dict().keys() - {"0.natural", "3.natural"}  # nothing but λ to forget


def test_fixed_scales_keep_outputs_near_one() -> None:
    net = binarize_(normalize_(network(), "none", num_tasks=1, output_gain=2.0)).eval()
    x = torch.randn(4000, 16)
    hidden = net[:2](x).detach()
    assert hidden.std() == pytest.approx(2**0.5, rel=0.1)
    assert net[4].scale == 2.0


def test_the_scale_of_the_layers_is_their_own() -> None:
    net = normalize_(network(), "none", num_tasks=1)
    assert net[1].scale == pytest.approx(2**0.5)
    assert net[4].scale == 1.0


def test_the_gain_follows_batch_norm_too() -> None:
    net = normalize_(network(), "shared", num_tasks=1, output_gain=3.0)
    assert net(torch.randn(500, 16)).detach().std() == pytest.approx(3.0, rel=0.05)
    assert normalize_(network(), "shared", num_tasks=1)[4].__class__ is nn.BatchNorm1d


def test_convolutions_are_known() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    normalize_(net, "task", num_tasks=2)
    assert isinstance(net[1], TaskBatchNorm)
    assert net(torch.randn(8, 3, 4, 4)).shape == (8, 2)


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="'shared', 'task', 'layer' or 'none', got 'batch'"):
        normalize_(network(), "batch", num_tasks=1)
