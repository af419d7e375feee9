"""Networks of a person's own: checked before they are trained, and as they were when they are refused."""

import pytest
import torch
from torch import nn

import bayesbinn as bb
from bayesbinn.data import load_data
from bayesbinn.errors import UserError
from bayesbinn.training.own import check_outputs, restored_on_error
from tests.runs import blobs


def own(outputs=3, features=8):
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(features, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, outputs))


def state(net):
    """What a person may notice of a network: its modules, their modes, its parameters and their values."""
    modules = [
        (name, module, module.training, getattr(module, "binarizer", None)) for name, module in net.named_modules()
    ]
    values = {name: value.clone() for name, value in net.state_dict().items()}
    return modules, [(name, id(p)) for name, p in net.named_parameters()], values


def same(one, other):
    assert one[:2] == other[:2]
    assert one[2].keys() == other[2].keys()
    for name, value in one[2].items():
        assert value.dtype == other[2][name].dtype
        assert torch.equal(value, other[2][name])


@pytest.fixture
def data():
    return blobs()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 1000}, "batch_size 1000 exceeds the 100 training examples"),
        ({"augment": "crop-flip"}, "augment 'crop-flip' needs images"),
        ({"form": "plain", "lr": 7.0}, "lr must be in"),
        ({"model": "mlp"}, "the first argument of fit is the network, got model='mlp' too: leave it out"),
        ({"validation": "some"}, "validation must be a number, got 'some'"),
        ({"validation": 0.9, "batch_size": 64}, "batch_size 64 exceeds the 10 training examples"),
        ({"device": "abacus"}, "device 'abacus' is not available"),
    ],
)
@pytest.mark.parametrize("binary", [False, True], ids=["real", "binary"])
def test_a_refused_network_is_as_it_was(data, settings, message, binary):
    net = bb.binarize_(own(), binarizer=bb.binarizers.SignSTE()) if binary else own()
    before = state(net.eval())
    with pytest.raises(UserError, match=message):
        bb.fit(net, data, **{"epochs": 1, "natural_dtype": "bfloat16", **settings})
    same(state(net), before)


def test_a_network_refused_by_a_checkpoint_is_as_it_was(tmp_path, data):
    bb.fit(own(), data, output=tmp_path / "run", epochs=1, samples=2)
    wider = nn.Sequential(own(), nn.Linear(3, 3))
    before = state(wider)
    with pytest.raises(UserError, match="is of another network"):
        bb.fit(wider, data, output=tmp_path / "run", resume=True)
    same(state(wider), before)


def test_values_come_back_too():
    net = own()
    before = state(net)

    def start():
        with restored_on_error(net):
            bb.binarize_(net)[0].natural.data.fill_(2.0)
            net[1].weight.data = torch.zeros(16)
            net[1].running_mean.add_(1.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start()
    same(state(net), before)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            own(outputs=2),
            r"returns outputs of shape \(2, 2\): data has 3 classes, make it return logits of shape \(2, 3\)",
        ),
        (own(features=9), r"the network fails on inputs of shape \(2, 8\) \(.*8 and 9.*\): make it take such inputs"),
        (nn.Sequential(own(), nn.Unflatten(1, (3, 1))), r"returns outputs of shape \(2, 3, 1\)"),
        (nn.Sequential(nn.Unflatten(1, (4, 2)), nn.LSTM(2, 3)), "returns a tuple"),
        (
            nn.Sequential(nn.Embedding(3, 3)),
            "an Embedding of the network reads the inputs of data, which fit standardises",
        ),
    ],
    ids=["outputs", "inputs", "dimensions", "tuple", "indices"],
)
def test_what_does_not_fit_the_data_is_one_sentence(data, net, message):
    with pytest.raises(UserError, match=message) as caught:
        bb.fit(net, data, epochs=1)
    assert "\n" not in str(caught.value)


def test_the_check_moves_nothing_on(data):
    class Noisy(nn.Module):
        def forward(self, x):
            return x + torch.rand_like(x)

    net = nn.Sequential(own(), Noisy())
    before, random = state(net), torch.get_rng_state()
    check_outputs(net, load_data(data), seed=0)
    same(state(net), before)
    assert torch.equal(torch.get_rng_state(), random)


def test_what_a_binary_network_ignores_is_said(data):
    net = bb.binarize_(own())
    with pytest.warns(UserWarning, match="binary already") as caught:
        bb.fit(net, data, epochs=1, samples=0, init="zeros", magnitude=3.0, real_ends=True)
    assert [str(w.message) for w in caught] == [
        f"{setting} has no effect on a network that is binary already"
        for setting in ("real_ends True", "init zeros", "magnitude 3.0")
    ]
    assert {w.filename for w in caught} == {__file__}
    bb.fit(own(), data, epochs=1, samples=0, init="zeros", magnitude=3.0)  # a warning is an error


def test_real_ends_know_every_layer_that_can_be_binary(data):
    net = nn.Sequential(
        *(nn.Unflatten(1, (1, 8)), nn.Conv1d(1, 4, 3), nn.Flatten(), nn.ReLU()),
        *(nn.Linear(24, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)),
    )
    bb.fit(net, data, epochs=1, samples=0, real_ends=True)
    assert [type(net[i]) for i in (1, 4, 6)] == [nn.Conv1d, bb.BinaryLinear, nn.Linear]
    with pytest.raises(UserError, match="matches none of the layers that can be converted"):
        bb.fit(nn.Sequential(nn.BatchNorm1d(8)), data, epochs=1, real_ends=True)
    with pytest.raises(UserError, match=r"nothing to convert: .* real_ends keeps the first and the last"):
        bb.fit(nn.Sequential(nn.Linear(8, 3)), data, epochs=1, real_ends=True)


def test_what_is_no_network(data):
    with pytest.raises(UserError, match=r"fit takes a network or the name of a model, got <class"):
        bb.fit(nn.Linear, data)


def test_validation_is_held_out_of_loaded_data_and_remembered(tmp_path, data):
    loaded = load_data(data)
    settings = {"width": 16, "depth": 1, "epochs": 1, "samples": 2}
    first = bb.fit("mlp", loaded, output=tmp_path / "run", validation=0.2, **settings)
    assert "validation_accuracy" in (tmp_path / "run" / "metrics.jsonl").read_text()
    for known in (data, loaded):
        again = bb.fit("mlp", known, output=tmp_path / "run", resume=True)
        assert {**again.evaluation, "train_seconds": 0} == {**first.evaluation, "train_seconds": 0}
    with pytest.raises(UserError, match="holds 20 examples out already: leave validation out"):
        bb.fit("mlp", load_data(data, validation=0.2), validation=0.1, **settings)


def test_a_network_without_the_layer_that_standardised_its_inputs_says_so(tmp_path):
    x, y = 5 + 3 * torch.randn(100, 8), torch.arange(100) % 3
    net = own()
    fitted = bb.fit(net, ((x, y), (x, y)), epochs=1, samples=2)
    bb.predict(fitted.net, x, 2)  # a warning is an error
    bb.deploy.save(fitted.net, tmp_path / "net.bbnn", input_shape=(8,))
    for use in (
        lambda: bb.predict(net, x, 0),
        lambda: bb.calibrate_(net, x),
        lambda: bb.deploy.pack(net, input_shape=(8,)),
    ):
        with pytest.warns(UserWarning, match="use the .net that fit returns"):
            use()
    standard = own()
    bb.fit(standard, ((torch.randn(20_000, 8), torch.arange(20_000) % 3),) * 2, epochs=1, samples=0, batch_size=5000)
    bb.predict(standard, x, 0)  # which had nothing to standardise


def test_arrays_of_three_dimensions_are_sequences_where_the_network_takes_no_images():
    x, y = torch.randn(60, 2, 20), torch.arange(60) % 2
    net = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.warns(UserWarning, match=r"given to the network as sequences \(B, 2, 20\)"):
        fitted = bb.fit(net, ((x, y), (x, y)), epochs=1, samples=2)
    assert bb.predict(fitted.net, x, 2).probs.shape == (60, 2)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(40, 2))
    bb.fit(flat, ((x, y), (x, y)), epochs=1, samples=0)  # takes images
    with pytest.raises(UserError, match=r"fails on inputs of shape \(2, 1, 2, 20\)"):
        bb.fit(nn.Sequential(nn.Conv1d(3, 4, 3), nn.Flatten(), nn.Linear(72, 2)), ((x, y), (x, y)), epochs=1)


def test_token_ids_are_not_standardised_in_silence():
    x, y = torch.randint(0, 50, (60, 15)), torch.arange(60) % 2
    net = nn.Sequential(nn.Embedding(50, 4), nn.Flatten(), nn.Linear(60, 2))
    with pytest.raises(UserError, match="an Embedding of the network reads the inputs of data"):
        bb.fit(net, ((x, y), (x, y)), epochs=1)


def test_rows_of_a_table_are_inputs_of_what_learned_from_it(tmp_path):
    rows = [{"size": float(i), "kind": "ab"[i % 2], "class": "xy"[i % 2]} for i in range(60)]
    settings = {"target": "class", "width": 16, "depth": 1, "epochs": 30, "batch_size": 12, "samples": 2}
    with pytest.warns(UserWarning, match="no test part"):
        fitted = bb.fit("mlp", rows, **settings)
    new = [{"kind": "a", "size": 3.0}, {"kind": "b", "size": 4.0}]
    assert bb.predict(fitted.net, fitted.prepare(new), 2).labels.tolist() == [0, 1]
    bb.deploy.save(fitted.net, tmp_path / "net.bbnn", input_shape=fitted.prepare(new).shape[1:], about=fitted.about)
    packed = bb.runtime.load(tmp_path / "net.bbnn")
    assert packed.about.classes == ("x", "y")
    assert packed.predict(packed.prepare(new)).argmax(1).tolist() == [0, 1]
    with pytest.raises(UserError, match="kind"):
        fitted.prepare([{"size": 3.0}])
    with pytest.raises(UserError, match="did not learn from a table"):
        bb.fit(own(), blobs(), epochs=1, samples=0).prepare(new)


class Positions(nn.Module):
    """Columns of whole numbers, each with an Embedding of its place."""

    def __init__(self):
        super().__init__()
        self.places, self.head = nn.Embedding(8, 4), nn.Linear(8 * 5, 2)

    def forward(self, x):
        places = self.places(torch.arange(8, device=x.device)).expand(len(x), -1, -1)
        return self.head(torch.cat([x[..., None], places], -1).flatten(1))


def test_an_embedding_of_positions_is_no_token_id():
    x, y = torch.randint(0, 16, (60, 8)), torch.arange(60) % 2
    with pytest.warns(UserWarning, match=r"these weights stay real: 1\.places \(Embedding"):
        bb.fit(Positions(), ((x, y), (x, y)), epochs=1, samples=0)


def test_a_refused_network_is_not_marked():
    x, y = 5 + torch.randn(100, 8), torch.arange(100) % 3
    net = own()
    with pytest.raises(UserError, match="batch_size"):
        bb.fit(net, ((x, y), (x, y)), epochs=1, batch_size=1000)
    bb.predict(net, x, 0)  # a warning is an error
