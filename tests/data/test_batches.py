"""Batches are a permutation that only the seed decides; augmentation is like its slow twin."""

import torch

from bayesbinn.data import Examples, batches
from bayesbinn.data.batches import crop_flip


def epoch(split, seed=0, number=0, start=0, size=4):
    return [x[:, 0].tolist() for x, _ in batches(split, size, seed, number, start)]


def test_batches_are_a_new_permutation_each_epoch_and_only_the_seed_decides_it():
    split = Examples(torch.arange(22.0)[:, None], torch.arange(22))
    first = epoch(split)
    assert [len(b) for b in first] == [4] * 5  # the rest is dropped
    assert len({i for batch in first for i in batch}) == 20
    torch.manual_seed(7)
    assert epoch(split) == first
    assert epoch(split, number=1) != first != epoch(split, seed=1)
    for start in range(6):
        assert epoch(split, start=start) == first[start:]
    assert all(torch.equal(x[:, 0].long(), y) for x, y in batches(split, 4, 0, 0))


def test_crop_flip_like_its_slow_twin():
    batch, padding = 16, 2
    x = torch.rand(batch, 3, 5, 6)
    torch.manual_seed(3)
    fast = crop_flip(x, padding)
    torch.manual_seed(3)
    top, left = (torch.randint(0, 2 * padding + 1, (batch, 1)) for _ in range(2))
    mirrored = torch.rand(batch, 1) >= 0.5
    for i in range(batch):
        canvas = torch.zeros(3, 5 + 2 * padding, 6 + 2 * padding)
        canvas[:, padding:-padding, padding:-padding] = x[i]
        window = canvas[:, top[i] : top[i] + 5, left[i] : left[i] + 6]
        assert torch.equal(fast[i], window.flip(-1) if mirrored[i] else window)


def test_crop_flip_reaches_every_shift():
    image = torch.arange(1.0, 13).reshape(1, 1, 3, 4)
    shifted = crop_flip(image.expand(2000, 1, 3, 4), padding=1)
    assert len(shifted.unique(dim=0)) == 3 * 3 * 2
    assert crop_flip(image.byte()).dtype == torch.uint8
