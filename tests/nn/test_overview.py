"""What `binarize_` says, and `summary` returns."""

import torch
from torch import nn
from torch.nn.utils import parametrizations

import bayesbinn as bb


class Special(nn.Linear):
    pass


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 16)
        self.position = nn.Parameter(torch.zeros(7, 16))
        self.rnn = nn.GRU(16, 16)
        self.norm = nn.LayerNorm(16)
        self.special = Special(16, 16)
        self.spectral = parametrizations.spectral_norm(nn.Linear(16, 16))
        self.mixer = nn.MultiheadAttention(16, 2)
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16, bias=False)
        self.second.weight = self.first.weight


def test_it_names_what_is_binary_and_what_stays_real_and_why(capsys):
    net = Net()
    count = sum(p.numel() for p in net.parameters())
    assert bb.binarize_(net, exclude="mixer", scale="learned") is net
    said = capsys.readouterr()
    assert said.out == ""
    found = bb.summary(net)
    assert said.err == f"{found}\n"
    assert found.layers == {"GRU": 1, "Linear": 2}
    assert {(own.name, own.kind, own.reason) for own in found.real} == {
        ("position", "Net", "no binary twin"),
        ("embedding", "Embedding", "real unless it is included by its name or type"),
        ("special", "Special", "a subclass of Linear, whose own code a twin does not know"),
        ("spectral", "Linear", "its weight is computed by a parametrization"),
        ("mixer", "MultiheadAttention", "kept real as asked"),
    }
    assert found.num_binary == 2 * 48 * 16 + 16 * 16  # the tied weight once
    scales = 2 * 48 + 2 * 16
    assert found.num_binary + found.num_real == count + scales
    assert found.float_bytes == 4 * count
    assert found.binary_bytes == found.num_binary / 8 + 4 * found.num_real
    assert str(found).splitlines()[0] == (
        f"binary: 1 GRU, 2 Linear; {found.num_binary / (count + scales):.1%} of {count + scales:,} parameters, "
        f"{4 * count / 1000:.1f} kB → {found.binary_bytes / 1000:.1f} kB"
    )


def test_quiet_says_nothing_and_many_layers_take_one_line(capsys):
    net = bb.binarize_(nn.Sequential(*[nn.Linear(4, 4) for _ in range(9)]), include="0", quiet=True)
    assert capsys.readouterr().err == ""
    assert str(bb.summary(net)).splitlines()[1] == "  real: 1, 2, 3, 4 and 4 more (Linear: kept real as asked)"


def test_a_network_without_binary_layers():
    found = bb.summary(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)))
    assert (found.num_binary, found.layers) == (0, {})
    assert str(found).startswith("binary: none; 0.0% of 24 parameters, 96 bytes → 96 bytes")
