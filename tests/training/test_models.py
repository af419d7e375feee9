"""The networks: sizes as published, shapes, which layers stay real, inputs they cannot take."""

import pytest
import torch
from torch import nn

from bayesbinn import binarize_
from bayesbinn.errors import UserError
from bayesbinn.training.models import MODELS, TEXT, ModelConfig, Normalize, build_model

CIFAR, MNIST = (3, 32, 32), (1, 28, 28)
SMALL = {"width": 12, "depth": 2, "width_multiplier": 0.05}


def num_weights(net):
    return sum(m.weight.numel() for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d))


def num_parameters(net):
    return sum(p.numel() for p in net.parameters())


def full_size(model, shape, classes, **more):
    with torch.device("meta"):  # sizes only, nothing computed
        return build_model(ModelConfig(model=model, **more), shape, classes)


def test_resnet18_has_its_published_size():
    # 11,173,962 for CIFAR-10 in the customary form; in place of the head's 10 biases, batch norm (10 + 10) and a scale
    assert num_parameters(full_size("resnet18", CIFAR, 10)) == 11_173_962 - 10 + 20 + 1


def test_vgg_small_has_its_published_size():
    # (128C3)x2-(256C3)x2-(512C3)x2-1024-1024-10, Courbariaux et al. (2015): 14.02 M
    convolutions = 9 * (3 * 128 + 128 * 128 + 128 * 256 + 256 * 256 + 256 * 512 + 512 * 512)
    assert num_weights(full_size("vgg-small", CIFAR, 10)) == convolutions + 8192 * 1024 + 1024 * 1024 + 1024 * 10
    assert num_weights(full_size("vgg-small", CIFAR, 10)) == 14_022_016


def test_mlp_of_the_paper():
    net = full_size("mlp", MNIST, 10, width=2048)
    assert num_weights(net) == 784 * 2048 + 2 * 2048**2 + 2048 * 10
    assert num_parameters(net) == num_weights(net) + 2 * (3 * 2048 + 10) + 1
    bare = full_size("mlp", MNIST, 10, width=2048, affine=False, output_scale=False)
    assert num_parameters(bare) == num_weights(bare) == num_weights(net)


@pytest.mark.parametrize("model", [model for model in MODELS if model != TEXT])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 13)])
@pytest.mark.parametrize("affine", [True, False])
def test_every_model_trains_and_answers(model, shape, affine):
    net = build_model(ModelConfig(model=model, affine=affine, output_scale=affine, **SMALL), shape, 5)
    x = torch.rand(4, *shape)
    logits = net(x)
    assert logits.shape == (4, 5)
    logits.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())
    net.eval()
    assert torch.equal(net(x)[:2], net(x[:2])) or torch.allclose(net(x)[:2], net(x[:2]), atol=1e-5)


def test_mlp_takes_vectors_and_any_depth():
    for depth in (0, 1, 3):
        net = build_model(ModelConfig(depth=depth, width=7), (6,), 3)
        assert net(torch.rand(4, 6)).shape == (4, 3)
        assert sum(isinstance(m, nn.Linear) for m in net) == depth + 1


def test_width_multiplier_scales_the_channels():
    full, half = (full_size("vgg-small", CIFAR, 10, width_multiplier=m) for m in (1.0, 0.5))
    channels = [[m.out_channels for m in net if isinstance(m, nn.Conv2d)] for net in (full, half)]
    assert channels[0] == [2 * c for c in channels[1]] == [128, 128, 256, 256, 512, 512]


def test_normalize_undoes_the_units_of_the_data():
    x = torch.rand(50, 3, 6, 5) * torch.tensor([1.0, 10, 100])[:, None, None] + 7
    mean, std = x.mean((0, 2, 3)), x.std((0, 2, 3), correction=0)
    y = Normalize(mean, std, 3)(x)
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.std((0, 2, 3), correction=0), torch.ones(3))
    assert not list(Normalize(mean, std, 3).parameters())
    vectors = torch.rand(50, 3) * 9
    torch.testing.assert_close(Normalize(vectors.mean(0), vectors.std(0), 1)(vectors).std(0), torch.ones(3))


@pytest.mark.parametrize("model", [model for model in MODELS if model != TEXT])
def test_real_ends(model):
    net = build_model(ModelConfig(model=model, **SMALL), (3, 8, 8), 4)
    binarize_(net, real_ends=True)
    first, last = (m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d))
    inputs = 3 * 8 * 8 if model == "mlp" else 3
    assert (first.weight.shape[1], last.weight.shape[0]) == (inputs, 4)


@pytest.mark.parametrize("model", ["vgg-small", "resnet18"])
@pytest.mark.parametrize("shape", [(64,), (1, 7, 28), (1, 28, 7)])
def test_inputs_too_small_for_convolutions(model, shape):
    with pytest.raises(UserError, match=rf"model '{model}' needs images of at least 8×8 pixels, .*use model 'mlp'"):
        build_model(ModelConfig(model=model, **SMALL), shape, 4)


def test_unknown_model():
    with pytest.raises(UserError, match=r"unknown model 'vgg' .*vgg-small"):
        build_model(ModelConfig(model="vgg"), CIFAR, 10)
