"""The loop: resumes bit for bit from anywhere, stops at what is not finite, follows its schedule."""

import math

import pytest
import torch

import bayesbinn as bb
from bayesbinn.continual import Examples, from_tasks
from bayesbinn.data import load_data
from bayesbinn.errors import UserError
from bayesbinn.training.checkpoint import has_checkpoint, load_checkpoint
from bayesbinn.training.config import Config, make_config
from bayesbinn.training.course import Callbacks, Course, StoppedError
from bayesbinn.training.loop import Trainer
from bayesbinn.training.measure import mode_metrics
from bayesbinn.training.methods import ESTIMATORS, METHODS
from bayesbinn.training.models import build_model
from bayesbinn.training.run import train
from bayesbinn.training.schedule import rate_factor
from bayesbinn.training.start import binary_, optimizer_of
from tests.runs import TINY, blobs, blobs_file, contents, final_state, log

EPOCHS, STEPS = 3, 3  # 100 examples in batches of 32
TOTAL = EPOCHS * STEPS
SHORT = 2  # epochs, where every step is stopped at


@pytest.fixture
def data(tmp_path):
    return blobs_file(tmp_path / "set.npz", shape=(8, 8))


def stop_after(steps):
    """Callbacks that ask to stop once `steps` steps are done in all."""
    done = [0]

    def step(now, total):
        done[0] = now

    return Callbacks(step=step, stop=lambda: done[0] >= steps)


CHOICES = [*({"method": m} for m in METHODS), *({"estimator": e} for e in ESTIMATORS if e != "mean")]
VARIANTS = [
    *({"method": method} for method in METHODS),
    {"estimator": "disarm"},  # whole networks, where the others are of a layer
    *(
        pytest.param({"estimator": e}, marks=pytest.mark.slow, id=e)
        for e in ESTIMATORS
        if e not in ("mean", "draw", "disarm")
    ),
    {
        "form": "factored",
        "momentum": 0.5,
        "train_samples": 2,
        "augment": "crop-flip",
        "warmup": 1.5,
        "validation": 0.02,
    },
    {"cooling": 50.0, "form": "tensor", "depth": 2},
    {"cooling": 5.0, "form": "plain"},
    {"natural_dtype": "bfloat16"},
    {"method": "ste", "schedule": "constant", "checkpoint_steps": 1, "real_ends": True, "depth": 2},
    {"model": "resnet18", "width_multiplier": 0.125, "augment": "crop-flip"},
    {"model": "vgg-small", "width_multiplier": 0.02, "method": "float"},
    {"model": "vgg-small", "width_multiplier": 0.02, "precision": "bfloat16"},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v.values())))
def test_stopped_after_every_step_and_resumed_is_as_if_nothing_had_happened(tmp_path, data, variant):
    settings = {**TINY, "data": data, "epochs": SHORT, **variant}
    train(settings, tmp_path / "whole")
    for steps in range(1, SHORT * STEPS):
        torch.manual_seed(steps)  # what the process did before must not matter
        with pytest.raises(StoppedError):
            train(settings, tmp_path / "parts", resume=True, callbacks=stop_after(steps))
        progress = load_checkpoint(tmp_path / "parts")[2]["progress"]
        assert (progress["epoch"], progress["batch"]) == divmod(steps, STEPS)
    train(settings, tmp_path / "parts", resume=True)
    assert final_state(tmp_path / "parts") == final_state(tmp_path / "whole")
    assert (tmp_path / "parts" / "config.toml").read_text() == (tmp_path / "whole" / "config.toml").read_text()


@pytest.mark.parametrize("form", ["plain", "tensor", "factored", "weight"])
def test_a_cooled_posterior_ends_at_its_kl_weight(tmp_path, data, form):
    """Cooled, with learning switched off by lr 0, λ grows by just the cooling, and the mode stays."""
    settings = {**TINY, "data": data, "epochs": EPOCHS, "magnitude": 0.1, "form": form}
    for name, more in (("constant", {"cooling": 1.0}), ("cooled", {"cooling": 20.0})):
        train({**settings, "lr": 0.0, "kl_weight": 0.5, **more}, tmp_path / name)
    constant, cooled = (load_checkpoint(tmp_path / name) for name in ("constant", "cooled"))
    naturals = [name for name in constant[0] if name.endswith("natural")]
    assert naturals
    for name in naturals:
        torch.testing.assert_close(cooled[0][name], 20 * constant[0][name], rtol=1e-4, atol=0.0)
    for _, _, state in (constant, cooled):
        assert state["optimizer"]["param_groups"][0]["kl_weight"] == pytest.approx(0.5)


@pytest.mark.parametrize(("form", "end"), [("plain", 0.5), ("tensor", 0.5), ("weight", 0.5)])
def test_cooling_leaves_the_rate_at_the_end_what_it_is(tmp_path, form, end):
    training, _ = trainer(tmp_path / "run", lr=0.5, form=form, cooling=16.0, schedule="constant")
    seen = []
    training.fit(Callbacks(step=lambda done, total: seen.append(training.optimizer.param_groups[0]["lr"])))
    rise = [1.0 if form == "plain" else 16 ** ((step + 1) / TOTAL - 1) for step in range(TOTAL)]
    assert seen == pytest.approx([0.5 * r for r in rise])
    assert seen[-1] == pytest.approx(end)


def test_schedules_keep_what_differs_between_groups(tmp_path):
    """Schedules and cooling multiply each group's own numbers: a layer of its own stays apart from the others."""
    training, _ = trainer(tmp_path / "run", depth=2, cooling=100.0, kl_weight=1e-3, lr=0.1)
    net, config = training.net, training.config
    naturals = [p for name, p in net.named_parameters() if name.endswith("natural")]
    real = [p for name, p in net.named_parameters() if not name.endswith("natural")]
    groups = [{"params": [p], "kl_weight": 0.1 * 2.0**i, "lr": 0.1 * 3.0**i} for i, p in enumerate(naturals)]
    rule = bb.BayesBiNN(groups, lr=0.1, num_data=100, form="weight", momentum=0.9)
    optimizer = bb.optim.NetworkOptimizer(rule, torch.optim.Adam(real))
    training = Trainer(net, optimizer, training.course, config, tmp_path / "run", {})
    training.fit()
    ends = [(group["kl_weight"], group["lr"]) for group in rule.param_groups]
    last = rate_factor(config, TOTAL - 1, TOTAL, STEPS)
    for i, (kl_weight, lr) in enumerate(ends):
        assert kl_weight == pytest.approx(0.001 * 2.0**i)
        assert lr == pytest.approx(0.1 * 3.0**i * last)


def test_the_seed_decides_all_and_something(tmp_path, data):
    settings = {**TINY, "data": data, "epochs": 1}
    states = []
    for i, seed in enumerate((0, 0, 1)):
        torch.manual_seed(100 + i)
        train({**settings, "seed": seed}, tmp_path / str(i))
        states.append(final_state(tmp_path / str(i)))
    assert states[0] == states[1] != states[2]


def test_an_epoch_of_one_step_can_be_stopped_too(tmp_path, data):
    settings = {**TINY, "data": data, "epochs": 5, "batch_size": 100}
    with pytest.raises(StoppedError):
        train(settings, tmp_path / "run", callbacks=stop_after(2))
    assert load_checkpoint(tmp_path / "run")[2]["progress"]["epoch"] == 2


def test_a_stop_in_the_last_step_lets_the_run_end(tmp_path, data):
    train({**TINY, "data": data, "epochs": EPOCHS}, tmp_path / "run", callbacks=stop_after(TOTAL))
    assert (tmp_path / "run" / "evaluation.json").exists()


def test_log_lost_with_the_process_comes_back(tmp_path, data):
    settings = {**TINY, "data": data, "epochs": EPOCHS}
    train(settings, tmp_path / "run")
    before = final_state(tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").unlink()  # as after a death between the last checkpoint and its log line
    (tmp_path / "run" / "evaluation.json").unlink()
    train(settings, tmp_path / "run", resume=True)
    assert final_state(tmp_path / "run") == before


@pytest.mark.parametrize("every", [1, 2])
def test_checkpoints_within_an_epoch(tmp_path, data, every):
    seen = []

    def step(done, total):  # before the save that may follow this step
        seen.append(has_checkpoint(tmp_path / "run"))

    settings = {**TINY, "data": data, "epochs": 1, "checkpoint_steps": every}
    train(settings, tmp_path / "run", callbacks=Callbacks(step=step))
    assert seen == [done > every for done in (1, 2, 3)]


def test_log(tmp_path, data):
    train({**TINY, "data": data, "epochs": EPOCHS, "kl_weight": 0.5, "cooling": 1.0}, tmp_path / "run")
    lines = log(tmp_path / "run")
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    for line in lines:
        assert line["loss"] == pytest.approx(line["nll"] + 0.5 * line["kl"] / 100)
        assert 0 <= line["entropy"] <= math.log(2)
        assert 0 <= line["flip_rate"] <= 1
        assert {"test_accuracy", "test_nll", "undecided", "saturated"} <= line.keys()
    train({**TINY, "data": data, "epochs": 1, "method": "float", "validation": 0.04}, tmp_path / "float")
    assert log(tmp_path / "float")[0].keys() == {
        *("epoch", "loss", "nll", "accuracy", "validation_accuracy", "validation_nll")
    }


LATENT = {"lr": 0.02}  # the defaults are for more than 100 examples and 60 steps
LEARNING = [
    *({"estimator": e} for e in ESTIMATORS if e != "disarm"),  # too noisy to learn in 60 steps
    *({"method": m} for m in ("bayesbinn-2020", "bop", "float")),
    *({"method": m, **LATENT} for m in ("ste", "pmf", "md-tanh", "adaste")),
]


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("choice", LEARNING, ids=lambda choice: "-".join(map(str, choice.values())))
def test_it_learns(tmp_path, data, choice, precision):
    settings = {**TINY, **choice, "data": data, "epochs": 20, "precision": precision}
    result = train(settings, tmp_path / "run")
    assert result["mode"]["accuracy"] >= 0.9


@pytest.mark.parametrize("choice", CHOICES, ids=lambda c: "-".join(c.values()))
def test_a_step_in_bfloat16_is_that_of_float32_rounded(tmp_path, choice):
    steps = {}
    for precision in ("float32", "bfloat16"):
        training, _ = trainer(tmp_path / precision, precision=precision, **choice, epochs=1)
        before = [p.detach().clone() for p in training.net.parameters()]
        training._step(training.task.train.x[:32].float(), training.task.train.y[:32])
        assert all(p.grad.dtype == torch.float32 for p in training.net.parameters())
        gradient = torch.cat([p.grad.flatten() for p in training.net.parameters()])
        assert any(bool((p != b).any()) for p, b in zip(training.net.parameters(), before, strict=True))
        steps[precision] = gradient
    cosine = torch.cosine_similarity(steps["float32"], steps["bfloat16"], dim=0)
    assert 0.98 < cosine < 1 - 1e-9  # rounded, and really so


# --- what is not finite ---


def trainer(run, poison_at=None, **settings):
    """A trainer on blobs whose network gets a NaN after `poison_at` steps, and the callbacks that do it."""
    config = make_config({**TINY, "epochs": EPOCHS, **settings})
    data = load_data(blobs())
    torch.manual_seed(0)
    net = binary_(build_model(config, data.input_shape, 3, data.mean, data.std), config)
    course = Course(from_tasks([(Examples(data.train.x, data.train.y), Examples(data.test.x, data.test.y))]))
    run.mkdir()

    def poison(done, total):
        if done == poison_at:
            with torch.no_grad():
                dict(net.named_parameters())["4.weight"][0] = math.nan

    return Trainer(net, optimizer_of(net, config, 100), course, config, run, {}), Callbacks(step=poison)


def test_a_loss_of_nan_stops_and_the_last_good_checkpoint_stays(tmp_path):
    run = tmp_path / "run"
    training, callbacks = trainer(run, STEPS + 1)
    good = {}

    def step(done, total):
        if done == STEPS + 1:
            good.update(contents(run))
        callbacks.step(done, total)

    message = r"the loss became nan around step 4 of 9: training stopped, .* is kept; lower lr"
    with pytest.raises(UserError, match=message):
        training.fit(Callbacks(step=step))
    assert contents(run) == good
    model, _, state = load_checkpoint(run)
    assert all(bool(tensor.isfinite().all()) for tensor in model.values())
    assert state["progress"]["epoch"] == 1


def test_a_weight_of_nan_never_reaches_a_checkpoint(tmp_path):
    training, callbacks = trainer(tmp_path / "run", STEPS)  # after the last step of an epoch: no loss is left to tell
    with pytest.raises(UserError, match=r"4\.weight became NaN or infinite around step 3 of 9: training stopped"):
        training.fit(callbacks)
    assert contents(tmp_path / "run") == {}


def test_a_weight_of_nan_never_reaches_a_checkpoint_within_an_epoch(tmp_path):
    training, callbacks = trainer(tmp_path / "run", 2, checkpoint_steps=1)
    with pytest.raises(UserError, match=r"4\.weight became NaN or infinite around step 2 of 9"):
        training.fit(callbacks)
    assert load_checkpoint(tmp_path / "run")[2]["progress"]["batch"] == 1


def test_steps_that_make_the_weights_overflow_stop(tmp_path, data):
    settings = {**TINY, "data": data, "epochs": EPOCHS, "real_lr": 1e9, "depth": 3}
    with pytest.raises(
        UserError, match=r"became .* training stopped, .* lower lr \(now 3\.0\) or real_lr \(now 1000000000\.0\)"
    ):
        train(settings, tmp_path / "run")
    assert not has_checkpoint(tmp_path / "run")


def test_fewer_examples_than_a_batch(tmp_path, data):
    with pytest.raises(UserError, match="batch_size 101 exceeds the 100 training examples: lower it"):
        train({**TINY, "data": data, "batch_size": 101}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- schedule ---


def test_cosine_falls_from_the_peak_to_nearly_zero():
    config = Config(epochs=4)
    rates = [rate_factor(config, step, 100, 25) for step in range(100)]
    assert rates[0] == 1.0
    assert rates == sorted(rates, reverse=True)
    assert rates[50] == pytest.approx(0.5)
    assert rates[99] == pytest.approx((1 + math.cos(math.pi * 0.99)) / 2)


def test_warmup_climbs_in_a_line():
    config = Config(epochs=4, schedule="constant", warmup=0.4)
    rates = [rate_factor(config, step, 40, 10) for step in range(40)]
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert set(rates[3:]) == {1.0}


def test_the_schedule_reaches_every_optimizer(tmp_path):
    training, _ = trainer(tmp_path / "run", lr=0.5, real_lr=0.25, warmup=1.0, cooling=1.0)
    seen = []

    def step(done, total):
        seen.append([group["lr"] for group in training.optimizer.param_groups])

    training.fit(Callbacks(step=step))
    factors = [rate_factor(training.config, i, TOTAL, STEPS) for i in range(TOTAL)]
    assert seen == [[0.5 * f, 0.25 * f] for f in factors]


def test_several_samples_a_step_average_their_gradients(tmp_path):
    training, _ = trainer(tmp_path / "run", train_samples=3, dropout=0.0, method="float")
    x, y = training.task.train.x[:32], training.task.train.y[:32]
    training.net.train()
    torch.nn.functional.cross_entropy(training.net(x), y).backward()
    expected = [p.grad.clone() for p in training.net.parameters()]
    training._step(x, y)  # three equal networks: the average is each one's gradient
    for p, grad in zip(training.net.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, grad)


def test_mode_metrics_do_not_depend_on_the_batch(tmp_path):
    training, _ = trainer(tmp_path / "run")
    whole, parts = (mode_metrics(training.net, training.task.test, n) for n in (1000, 7))
    assert whole == pytest.approx(parts)
    assert training.net.training
