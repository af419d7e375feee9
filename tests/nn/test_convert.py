"""Conversion in place: what is replaced, what stays, and what stays shared."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from bayesbinn import BinaryConv1d, BinaryConv2d, BinaryLinear, binarize_, split_parameters
from bayesbinn.binarizers import Concrete, StraightThroughSample
from bayesbinn.nn import BinaryEmbedding, BinaryLayer, binary_layers


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 8))
        self.head = nn.ModuleDict({"a": nn.Linear(8, 2), "b": nn.Linear(8, 3, bias=False)})

    def forward(self, x):
        h = self.body(self.norm(self.conv(x)))
        return self.head["a"](h), self.head["b"](h)


def binary_names(net):
    return [name for name, _ in binary_layers(net)]


def test_layers_are_replaced_in_place_and_an_embedding_on_request():
    def net():
        return nn.Sequential(nn.Conv1d(2, 3, 1), nn.Conv2d(2, 3, 1), nn.Embedding(2, 3), nn.Linear(2, 3))

    found = net()
    assert binarize_(found) is found
    assert [type(m) for m in found] == [BinaryConv1d, BinaryConv2d, nn.Embedding, BinaryLinear]
    assert [type(m) for m in binarize_(net(), include=["*", nn.Embedding])][2] is BinaryEmbedding
    assert [type(m) for m in binarize_(net(), include="2")] == [nn.Conv1d, nn.Conv2d, BinaryEmbedding, nn.Linear]
    assert [type(m) for m in binarize_(net(), real_ends=True)][1:] == [BinaryConv2d, nn.Embedding, nn.Linear]


def test_types_are_of_the_layer_or_of_what_is_around_it():
    net = nn.Sequential(nn.ModuleDict({"a": nn.Linear(2, 2)}), nn.Linear(2, 2), nn.GRU(2, 2))
    assert [type(m) for m in binarize_(net, exclude=[nn.ModuleDict, nn.RNNBase])[1:]] == [BinaryLinear, nn.GRU]
    assert type(net[0]["a"]) is nn.Linear
    with pytest.raises(ValueError, match=r"Conv2d matches none of the layers that can be converted: 0\.a, 2"):
        binarize_(net, include=nn.Conv2d)
    with pytest.raises(ValueError, match="real_ends keeps the first and the last"):
        binarize_(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), real_ends=True)


def test_converted_net_computes_with_the_signs_of_its_weights():
    net, x = Net().eval(), torch.randn(2, 1, 4, 4)
    twin = Net().eval()
    twin.load_state_dict(net.state_dict())
    with torch.no_grad():
        for module in twin.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                fan_in = module.weight[0].numel()
                module.weight.copy_(torch.where(module.weight >= 0, 1.0, -1.0) / fan_in**0.5)
    for found, expected in zip(binarize_(net, init="weights", scale="fan_in")(x), twin(x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("patterns", "converted"),
    [
        ({}, ["conv", "body.1", "body.3", "head.a", "head.b"]),
        ({"include": "body.*"}, ["body.1", "body.3"]),
        ({"include": ["conv", "head.?"]}, ["conv", "head.a", "head.b"]),
        ({"exclude": "conv"}, ["body.1", "body.3", "head.a", "head.b"]),
        ({"exclude": ("conv", "head.*")}, ["body.1", "body.3"]),
        ({"include": "*.*", "exclude": ["*.1", "head.b"]}, ["body.3", "head.a"]),
        ({"include": iter(["head.[ab]"])}, ["head.a", "head.b"]),
    ],
)
def test_include_and_exclude(patterns, converted):
    net = binarize_(Net(), **patterns)
    assert binary_names(net) == converted
    everything = {name for name, m in Net().named_modules() if type(m) in (nn.Linear, nn.Conv2d)}
    assert {name for name, m in net.named_modules() if type(m) in (nn.Linear, nn.Conv2d)} == everything - set(converted)


def test_convert_in_two_goes():
    net = binarize_(Net(), include="conv", binarizer=Concrete(0.1))
    first = net.conv
    binarize_(net, init="zeros")
    assert net.conv is first
    assert net.conv.binarizer == Concrete(0.1)
    assert net.body[1].binarizer == StraightThroughSample()


def test_errors_name_the_value_and_the_fix():
    with pytest.raises(TypeError, match="got a bare Linear: use BinaryLinear"):
        binarize_(nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"bare LSTM: use BinaryLSTM, for this one bayesbinn.nn.BinaryLSTM.from_float"):
        binarize_(nn.LSTM(2, 2))
    with pytest.raises(TypeError, match="BinaryLinear is binary already"):
        binarize_(BinaryLinear(2, 2))
    with pytest.raises(ValueError, match="every layer of Net that has a binary twin is binary already"):
        binarize_(binarize_(Net()))
    with pytest.raises(ValueError, match=r"layer '0' \(LazyLinear\) has no weight yet: run a batch through it first"):
        binarize_(nn.Sequential(nn.LazyLinear(3)))
    with pytest.raises(ValueError, match=r"'hed\.\*' matches none of the layers that can be converted: conv, body\.1"):
        binarize_(Net(), exclude="hed.*")
    with pytest.raises(ValueError, match="matches none of the layers that can be converted: -"):
        binarize_(nn.Sequential(nn.ReLU()))
    with pytest.raises(ValueError, match="nothing to convert"):
        binarize_(Net(), include="conv", exclude="*")


@pytest.mark.parametrize("bad", [{"include": "nothing"}, {"init": "normal"}, {"magnitude": -1.0}])
def test_a_refused_conversion_changes_nothing(bad):
    net = Net()
    before = dict(net.named_modules())
    with pytest.raises(ValueError, match=r"nothing|normal|-1\.0"):
        binarize_(net, **bad)
    after = dict(net.named_modules())
    assert all(after[name] is module for name, module in before.items())


def test_a_shared_module_stays_shared():
    layer = nn.Linear(4, 4)
    net = binarize_(nn.Sequential(layer, nn.ReLU(), layer))
    assert net[0] is net[2]
    assert len(split_parameters(net)[0]) == 1


@pytest.mark.parametrize("patterns", [{"include": "0"}, {"include": "2"}, {"include": ["2", "0"]}])
def test_including_one_name_of_a_shared_module_converts_it_under_all(patterns):
    layer = nn.Linear(4, 4)
    net = binarize_(nn.Sequential(layer, nn.ReLU(), layer), **patterns)
    assert net[0] is net[2]
    assert type(net[0]) is BinaryLinear


def test_excluding_one_name_of_a_shared_module_excludes_it_under_all():
    layer = nn.Linear(4, 4)
    net = binarize_(nn.Sequential(layer, nn.Linear(4, 4), layer), exclude="2")
    assert [type(m) for m in net] == [nn.Linear, BinaryLinear, nn.Linear]
    assert net[0] is net[2]


def test_tied_weights_stay_tied():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    binarize_(net)
    assert net[0] is not net[1]
    assert net[0].natural is net[1].natural
    binary, real = split_parameters(net)
    assert (len(binary), len(real)) == (1, 4)  # each has a bias and a scale of its own
    net(torch.randn(3, 4)).sum().backward()
    assert net[0].natural.grad is not None


def test_subclasses_and_parametrized_layers_are_left_alone():
    class Special(nn.Linear):
        pass

    net = nn.Sequential(Special(2, 2), nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), nn.Linear(2, 2))
    assert binary_names(binarize_(net)) == ["2"]


def test_mode_requires_grad_and_bias_are_taken_over():
    net = Net()
    net.head.eval()
    net.conv.weight.requires_grad_(False)
    bias = net.conv.bias
    binarize_(net)
    assert net.conv.training
    assert not net.head["a"].training
    assert not net.conv.natural.requires_grad
    assert net.conv.bias is bias


def test_hooks_stay_on_their_layer_and_can_be_removed():
    net, called = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), []
    handles = [
        net[0].register_forward_pre_hook(lambda module, args: called.append("before")),
        net[0].register_forward_hook(lambda module, args, out: called.append("after")),
        net[1].register_full_backward_hook(lambda module, inputs, outputs: called.append("backward")),
    ]
    binarize_(net)(torch.ones(1, 4)).sum().backward()
    assert called == ["before", "after", "backward"]
    for handle in handles:
        handle.remove()
    net(torch.ones(1, 4)).sum().backward()
    assert len(called) == 3


def test_a_weight_that_a_hook_computes_is_refused_and_nothing_changes():
    net = nn.Sequential(nn.Linear(4, 3), prune.l1_unstructured(nn.Linear(3, 2), "weight", amount=0.5))
    with pytest.raises(ValueError, match=r"weight of Linear\(in_features=3.*prune\.remove"):
        binarize_(net)
    assert binary_names(net) == []
    prune.remove(net[1], "weight")
    assert binary_names(binarize_(net)) == ["0", "1"]


def test_init_modes():
    weight = Net().conv.weight
    assert binarize_(Net(), magnitude=3).conv.natural.abs().unique().tolist() == [3.0]
    assert binarize_(Net(), init="zeros").conv.natural.abs().max() == 0
    net = Net()
    weight = net.conv.weight.detach().clone()
    assert torch.equal(binarize_(net, init="weights").conv.natural.sign(), weight.sign())


def test_one_binarizer_object_for_all_layers():
    concrete = Concrete(1.0)
    net = binarize_(Net(), binarizer=concrete)
    concrete.temperature = 0.25  # scheduling
    assert {layer.binarizer.temperature for _, layer in binary_layers(net)} == {0.25}


def test_split_parameters_divides_them_all():
    net = binarize_(Net(), exclude="conv")
    binary, real = split_parameters(net)
    naturals = {id(m.natural) for m in net.modules() if isinstance(m, BinaryLayer)}
    assert {id(p) for p in binary} == naturals
    assert {id(p) for p in binary} | {id(p) for p in real} == {id(p) for p in net.parameters()}
    assert len(binary) + len(real) == len(list(net.parameters()))
    binary, real = split_parameters(nn.Linear(2, 2))
    assert (len(binary), len(real)) == (0, 2)


def test_state_dict_keys():
    keys = list(binarize_(Net(), scale="fan_in").state_dict())
    assert [k.replace("natural", "weight") for k in sorted(keys)] != sorted(keys)
    assert {k.replace("natural", "weight") for k in keys} == set(Net().state_dict())


@pytest.mark.parametrize("patterns", [{}, {"include": "*linear?"}, {"include": "*attn"}])
def test_torchs_fused_kernel_is_off_where_any_part_is_binary(patterns):
    """In evaluation mode torch's encoder hands `.linear1.weight` and its like to one kernel, past the layers."""
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True, dropout=0.0)
    net = binarize_(nn.TransformerEncoder(layer, 2), **patterns, scale="learned").eval()
    x, padding = torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    slow = net(x, src_key_padding_mask=padding)  # gradients are on: layer by layer
    with torch.no_grad():
        found = net(x, src_key_padding_mask=padding)
    assert found.shape == slow.shape
    torch.testing.assert_close(found[~padding], slow[~padding])
    for _, own in binary_layers(net):
        own.scale.data.mul_(2)
    with torch.no_grad():
        assert not torch.allclose(net(x, src_key_padding_mask=padding)[~padding], slow[~padding])


def test_a_weight_shared_with_a_module_that_stays_real_is_refused() -> None:
    """A language model's head that shares the weight of its embedding would silently get one of its own."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(6, 4)
            self.body = nn.Linear(4, 4)
            self.head = nn.Linear(4, 6, bias=False)
            self.head.weight = self.embedding.weight

    net = Tied()
    with pytest.raises(ValueError, match=r"layer 'head' shares its weight with embedding.weight, which stays real"):
        binarize_(net)
    assert type(net.body) is nn.Linear  # nothing was changed
    binarize_(net, exclude="head")
    assert net.head.weight is net.embedding.weight
    net = binarize_(Tied(), include=["*", "embedding"])  # as the message says
    assert net.head.natural is net.embedding.natural
    assert net.head(net.embedding(torch.tensor([1]))).shape == (1, 6)
    pair = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    pair[1].weight = pair[0].weight
    assert binarize_(pair)[0].natural is pair[1].natural  # tied layers that are both converted stay tied
    half = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    half[1].weight = half[0].weight
    with pytest.raises(ValueError, match=r"layer '0' shares its weight with 1.weight"):
        binarize_(half, include="0")
