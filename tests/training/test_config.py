"""Settings: checked whatever way they come, and the same after a round trip through a file."""

import pytest

from bayesbinn.errors import UserError
from bayesbinn.nn.layers import MAGNITUDE
from bayesbinn.training.config import Config, make, make_config, read_toml, settings_of, to_toml
from bayesbinn.training.methods import DRAWN, ESTIMATORS, METHODS
from bayesbinn.training.options import options_of
from bayesbinn.training.strategies import STRATEGIES, ContinualConfig

CHOICES = [
    *((Config, {"method": name}) for name in METHODS),
    *((Config, {"estimator": name}) for name in ESTIMATORS),
    *((ContinualConfig, {"strategy": name, "method": m}) for name, row in STRATEGIES.items() for m in row.methods),
]


def test_later_sources_win():
    config = make_config({"epochs": 3, "width": 8}, {"epochs": 5})
    assert (config.epochs, config.width, config.depth) == (5, 8, Config().depth)


def ids(value):
    return "-".join(map(str, value.values())) if isinstance(value, dict) else value.__name__


@pytest.mark.parametrize(("kind", "choice"), CHOICES, ids=ids)
def test_what_a_run_stores_is_all_that_is_in_force(tmp_path, kind, choice):
    config = make(kind, choice, {"data": "npz:a 'quoted' \"näme\"\\.npz", "seed": 3})
    (tmp_path / "recipe.toml").write_text(to_toml(config), encoding="utf-8")
    stored = read_toml(tmp_path / "recipe.toml")
    assert make(kind, stored) == config
    assert stored == settings_of(config)
    assert all(value is not None for value in stored.values())
    assert choice.items() <= stored.items()


def test_options_belong_to_their_choice():
    config = make_config({"estimator": "concrete", "temperature": 0.5, "lr": 0.3, "cooling": 4})
    assert (config.method_options.lr, config.method_options.cooling) == (0.3, 4.0)
    assert config.estimator_options.temperature == 0.5
    assert "temperature" not in settings_of(make_config({}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip": 1.0}, r"method 'bayesbinn' takes no clip: leave it out .it is for method ste."),
        ({"method": "float", "momentum": 0.5}, r"method 'float' takes no momentum: .* bayesbinn, bayesbinn-2020"),
        ({"method": "ste", "estimator": "draw"}, r"method 'ste' takes no estimator: .*method bayesbinn"),
        ({"temperature": 1.0}, r"'bayesbinn' takes no temperature: .*method bayesbinn-2020; estimator concrete"),
        ({"method": "ste", "temperature": 1.0}, r"method 'ste' takes no temperature"),
        ({"method": "bayesbin"}, r"unknown method 'bayesbin': did you mean 'bayesbinn'\?"),
        ({"estimator": "reinmx"}, r"unknown estimator 'reinmx': did you mean 'reinmax'\?"),
        ({"clipp": 1.0}, r"unknown setting 'clipp': did you mean 'clip'\?"),
        ({"natural_dtype": "bfloat16", "cooling": 3}, r"natural_dtype bfloat16 goes without cooling, got 3\.0"),
    ],
)
def test_options_of_other_choices_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        make_config(settings)


@pytest.mark.parametrize("depth", [0, 1])
def test_real_ends_must_leave_something_binary(depth):
    with pytest.raises(UserError, match=f"real_ends leaves no binary layer in an mlp of depth {depth}: use"):
        make_config({"depth": depth, "real_ends": True})
    make_config({"depth": depth, "real_ends": True, "method": "float"})


def test_a_strategy_on_streams_has_the_defaults_that_were_measured_there():
    config = make(ContinualConfig, {})
    assert (config.method, config.method_options.estimator, config.method_options.kl_weight) == (
        "bayesbinn",
        "draw",
        0.4,
    )
    assert make(ContinualConfig, {"kl_weight": 0.1}).method_options.kl_weight == 0.1
    assert make(ContinualConfig, {"strategy": "ewc"}).method == "float"
    assert make(ContinualConfig, {"strategy": "palimpsest"}).schedule == "constant"
    assert make(ContinualConfig, {"strategy": "palimpsest", "schedule": "cosine"}).schedule == "cosine"


def test_whole_numbers_serve_as_numbers_but_not_the_reverse():
    lr = make_config({"lr": 1}).method_options.lr
    assert lr == 1.0
    assert type(lr) is float
    with pytest.raises(UserError, match=r"epochs must be a whole number, got 2\.0"):
        make_config({"epochs": 2.0})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epoch": 3}, r"unknown setting 'epoch': did you mean 'epochs'\?"),
        ({"epochs": "3"}, "epochs must be a whole number, got '3'"),
        ({"epochs": True}, "epochs must be a whole number, got True"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"epochs": 10**30}, "epochs must be at most 1000000000"),
        ({"affine": 1}, "affine must be true or false, got 1"),
        ({"data": 5}, "data must be a text, got 5"),
        ({"lr": "fast"}, "lr must be a number, got 'fast'"),
        ({"lr": -0.1}, r"lr must be at least 0, got -0\.1"),
        ({"lr": float("nan")}, "lr must be at least 0, got nan"),
        ({"lr": float("inf")}, "lr must be at most 1000000000, got inf"),
        ({"lr": 10**400}, "lr must be at most 1000000000"),
        ({"num_data": -1}, "num_data must be at least 0, got -1"),
        ({"kl_weight": 0.0}, r"kl_weight must be above 0, got 0\.0"),
        ({"kl_weight": -1}, "kl_weight must be above 0, got -1"),
        ({"kl_weight": float("nan")}, "kl_weight must be above 0, got nan"),
        ({"momentum": 1.0}, r"momentum must be at most 0\.9999, got 1\.0"),
        ({"batch_size": 1}, "batch_size must be at least 2, got 1"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"seed": 2**32}, "seed must be at most 4294967295"),
        ({"model": "resnet"}, r"unknown model 'resnet': did you mean 'resnet18'\?"),
        ({"augment": "flip"}, r"unknown augment 'flip'"),
    ],
)
def test_bad_settings(setting, message):
    with pytest.raises(UserError, match=message):
        make_config(setting)


@pytest.mark.parametrize(("kind", "choice"), CHOICES, ids=ids)
def test_every_number_has_bounds(kind, choice):
    settings = settings_of(make(kind, choice))
    records = [kind, *(type(getattr(make(kind, choice), f"{what}_options")) for what in kind.tables)]
    fields = {name: f for record in records for name, f in options_of(record).items()}
    assert fields.keys() == settings.keys()
    for name, f in fields.items():
        for value in (-1, 10**400) if f.type in (int, float) else ():
            with pytest.raises(UserError, match=f"{name} must be "):
                make(kind, choice, {name: value})


def test_files_that_are_no_recipes(tmp_path):
    with pytest.raises(UserError, match=r"no recipe at .*nothing\.toml: give --config an existing TOML file"):
        read_toml(tmp_path / "nothing.toml")
    for content in (b"epochs = = 3", b"\xff\xfe"):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(UserError, match=r"cannot read .*bad\.toml as TOML"):
            read_toml(tmp_path / "bad.toml")
    with pytest.raises(UserError, match=r"cannot read .* as TOML"):
        read_toml(tmp_path)


def test_settings_that_a_network_does_not_have_are_said() -> None:
    assert make_config({"width": 64, "depth": 2}).notes == []
    config = make_config({"model": "vgg-small", "width": 64, "depth": 2, "width_multiplier": 0.5})
    assert config.notes == [f"{name} has no effect on model 'vgg-small'" for name in ("width 64", "depth 2")]
    assert make_config({"width_multiplier": 0.5}).notes == ["width_multiplier 0.5 has no effect on model 'mlp'"]
    own = make_config({"model": "own", "dropout": 0.5, "affine": False, "output_scale": False, "real_ends": True})
    assert own.notes == [
        f"{name} has no effect on model 'own'" for name in ("dropout 0.5", "affine False", "output_scale False")
    ]
    assert make_config({"width": 9, "depth": 0}).notes == ["width 9 has no effect on an mlp of depth 0"]


@pytest.mark.parametrize(
    ("settings", "notes"),
    [
        ({"affine": True}, ["affine True has no effect on statistics 'none'"]),
        ({"affine": True, "statistics": "layer", "stream_seed": 3}, []),
        ({"max_angle": 90.0}, ["max_angle 90.0 has no effect on stream 'permuted-digits'"]),
        ({"max_angle": 90.0, "stream_seed": 3, "data": "rotated-digits"}, []),
        ({"stream_seed": 3, "data": "tasks:here"}, ["stream_seed 3 has no effect on stream 'tasks:here'"]),
        ({"stream_seed": 3, "data": "split-digits"}, []),
        (
            {"model": "own", "affine": True, "width": 5},
            [f"{name} has no effect on model 'own'" for name in ("width 5", "affine True")],
        ),
    ],
)
def test_settings_of_a_stream_without_effect_are_said(settings, notes):
    assert make(ContinualConfig, settings).notes == notes


def test_a_network_of_ones_own_starts_as_in_a_loop_of_ones_own():
    assert make_config({}).method_options.magnitude == 0.3
    assert make_config({"estimator": "draw"}).method_options.magnitude == 1.0
    assert make_config({"model": "own"}).method_options.magnitude == 0.3
    assert make_config({"model": "own", "estimator": "draw"}).method_options.magnitude == MAGNITUDE
    assert make_config({"model": "own", "magnitude": 2.0}).method_options.magnitude == 2.0
    assert make_config({"model": "own", "method": "bayesbinn-2020"}).method_options.magnitude == 10.0
    assert make_config({"model": "own", "method": "float"}).method_row.binarizer is None


@pytest.mark.parametrize(
    "given", [{"estimator": "draw"}, {"form": "plain"}, {"natural_dtype": "bfloat16"}, {"modes": 2}]
)
def test_a_posterior_that_cannot_start_warm_has_the_defaults_of_drawn_weights(given):
    assert ({"estimator": "draw"} | DRAWN).items() <= vars(make_config(given).method_options).items()
    warm = make_config({}).method_options
    assert (warm.estimator, warm.cooling) == ("mean", 100.0)
    assert make_config({**given, "lr": 0.7}).method_options.lr == 0.7
