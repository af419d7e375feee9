"""Settings: checked whatever way they come, and the same after a round trip through a file."""

import dataclasses

import pytest

from bayesbinn.errors import UserError
from bayesbinn.training.config import FIELDS, Config, field_type, make_config, read_toml, to_toml


def test_later_sources_win():
    config = make_config({"epochs": 3, "width": 8}, {"epochs": 5})
    assert (config.epochs, config.width, config.depth) == (5, 8, Config().depth)


def test_defaults_pass_their_own_checks():
    given = {k: v for k, v in dataclasses.asdict(Config()).items() if v is not None}
    assert make_config(given) == Config()


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(
            data="npz:a 'quoted' \"näme\"\\.npz",
            lr=1e-4,
            temperature=1e-10,
            num_data=60_000,
            affine=False,
            init="zeros",
        ),
    ],
)
def test_toml_round_trip(tmp_path, config):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(to_toml(config), encoding="utf-8")
    assert make_config(read_toml(recipe)) == config


def test_whole_numbers_serve_as_numbers_but_not_the_reverse():
    lr = make_config({"lr": 1}).lr
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
        ({"num_data": 0}, "num_data must be at least 1, got 0"),
        ({"temperature": 0.0}, r"temperature must be above 0, got 0\.0"),
        ({"temperature": -1}, "temperature must be above 0, got -1"),
        ({"temperature": float("nan")}, "temperature must be above 0, got nan"),
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


@pytest.mark.parametrize("name", [name for name in FIELDS if field_type(name) in (int, float)])
def test_every_number_has_bounds(name):
    for value in (-1, 10**400):
        with pytest.raises(UserError, match=f"{name} must be "):
            make_config({name: value})


def test_files_that_are_no_recipes(tmp_path):
    with pytest.raises(UserError, match=r"no recipe at .*nothing\.toml: give --config an existing TOML file"):
        read_toml(tmp_path / "nothing.toml")
    for content in (b"epochs = = 3", b"\xff\xfe"):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(UserError, match=r"cannot read .*bad\.toml as TOML"):
            read_toml(tmp_path / "bad.toml")
    with pytest.raises(UserError, match=r"cannot read .* as TOML"):
        read_toml(tmp_path)
