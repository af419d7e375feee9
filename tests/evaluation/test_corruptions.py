"""Damage grows with its strength, stays in range, and does what it says."""

import pytest
import torch

from bayesbinn.data import load_data
from bayesbinn.errors import UserError
from bayesbinn.evaluation.corruptions import LEVELS, corrupt


@pytest.mark.parametrize("kind", LEVELS)
def test_it_grows_with_strength_within_the_range(kind):
    x = load_data("digits").test.x[:50]
    assert torch.equal(corrupt(x, kind, 0), x.float())
    damage = []
    for strength in range(1, 6):
        damaged = corrupt(x, kind, strength)
        assert damaged.shape == x.shape
        assert damaged.dtype == torch.float32
        assert float(damaged.min()) >= float(x.min())
        assert float(damaged.max()) <= float(x.max())
        damage.append(float((damaged - x).square().mean()))
        assert torch.equal(damaged, corrupt(x, kind, strength))  # repeatable
    assert damage == sorted(damage)
    assert damage[0] < 0.7 * damage[-1]


def test_rotation_turns_about_the_centre(monkeypatch):
    monkeypatch.setitem(LEVELS, "rotation", (90, 180, 0, 0, 0))
    for shape in ((1, 2, 5, 5), (1, 1, 4, 7)):
        x = torch.rand(shape)
        torch.testing.assert_close(corrupt(x, "rotation", 2), torch.rot90(x, 2, (2, 3)), atol=1e-5, rtol=0)
    x = torch.rand(1, 1, 6, 6)
    x[..., 0, 0] = 0  # black is the smallest value
    torch.testing.assert_close(corrupt(x, "rotation", 1), torch.rot90(x, 1, (2, 3)), atol=1e-5, rtol=0)


def test_blur_keeps_the_mass_away_from_the_border():
    x = torch.zeros(1, 1, 41, 41)
    x[..., 20, 20] = 1.0
    blurred = corrupt(x, "blur", 3)
    assert float(blurred.sum()) == pytest.approx(1.0, abs=1e-4)
    assert float(blurred.max()) < 0.1


def test_bad_input():
    with pytest.raises(UserError, match=r"corruptions need images"):
        corrupt(torch.zeros(3, 8), "noise", 1)
    with pytest.raises(UserError, match="noise, blur, rotation at strength 0 to 5, got fog at 1"):
        corrupt(torch.zeros(1, 1, 8, 8), "fog", 1)
