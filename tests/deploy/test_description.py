"""`describe` adds up to the file; `bench` runs every engine on the same network."""

import numpy as np
import torch
from torch import nn

import bayesbinn as bb
from bayesbinn.deploy import twin
from tests.deploy.nets import mlp, resnet, trained


def undecided() -> nn.Module:
    """A network whose draws differ from its mode."""
    net = mlp()
    with torch.no_grad():
        for _, layer in bb.nn.binary_layers(net):
            layer.natural.mul_(0.1)
    return net


def test_bytes_add_up_to_the_file() -> None:
    for net, shape in ((mlp(), (20,)), (resnet(), (3, 12, 12)), (trained(nn.Sequential(*[nn.Linear(6, 6)] * 3)), (6,))):
        raw = bb.deploy.pack(net, num_samples=2, input_shape=shape)
        description = bb.deploy.describe(bb.deploy.load_program(raw))
        assert sum(row.num_bytes for row in description.rows) == description.total.num_bytes == len(raw)
        assert all(row.num_bytes >= 0 for row in description.rows)
        assert "total" in str(description)


def test_torch_rival_computes_the_same_network() -> None:
    for net, shape in ((mlp(), (20,)), (resnet(), (3, 12, 12))):
        program = bb.deploy.load_program(bb.deploy.pack(net, input_shape=shape, activations="int16"))
        x = torch.randn(4, *shape)
        found = twin.forward(program, x, twin.weights(program))
        assert torch.allclose(found, net(x), atol=1e-3)


def test_bench() -> None:
    program = bb.deploy.load_program(bb.deploy.pack(mlp(), num_samples=2))
    results = bb.deploy.bench(program, batch_sizes=(1, 4), rounds=2, seconds=1e-4)
    assert {r["batch"] for r in results} == {1, 4}
    assert all(np.isfinite(r["microseconds"]) and r["microseconds"] > 0 for r in results)
    assert len({r["engine"] for r in results}) >= 3


def test_bench_of_networks_with_statistics_of_their_own() -> None:
    net = undecided()
    program = bb.deploy.load_program(
        bb.deploy.pack(bb.calibrate_(net, torch.randn(64, 20), num_samples=2), num_samples=2)
    )
    assert any(op.own for op in program.ops)
    results = bb.deploy.bench(program, batch_sizes=(2,), rounds=1, seconds=1e-4)
    assert {"torch float32"} < {r["engine"] for r in results}


def test_a_layer_that_is_called_twice_has_its_weights_once() -> None:
    layer = bb.BinaryLinear(64, 64, bias=False)
    raw = bb.deploy.pack(nn.Sequential(layer, nn.ReLU(), layer), input_shape=(64,))
    twice = bb.deploy.describe(bb.deploy.load_program(raw))
    assert (twice.total.num_weights, twice.total.num_macs) == (64 * 64, 2 * 64 * 64)
    assert twice.float_bytes < 1.1 * 4 * 64 * 64


def test_drawn_networks_do_not_enlarge_the_floats_of_the_mode() -> None:
    net, x = undecided(), torch.randn(64, 20)
    bb.calibrate_(net, x, num_samples=3)
    alone, more = (
        bb.deploy.describe(bb.deploy.load_program(bb.deploy.pack(net, num_samples=n, input_shape=(20,))))
        for n in (0, 3)
    )
    assert more.float_bytes == alone.float_bytes
    assert more.total.num_bytes > alone.total.num_bytes
