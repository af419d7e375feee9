"""Streams: what each task holds, and that only the seed decides it."""

import pytest
import torch

from bayesbinn import continual
from bayesbinn.continual import Examples


def images(n: int = 20, classes: int = 10, seed: int = 0) -> Examples:
    x = torch.randint(0, 256, (n, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return Examples(x, torch.arange(n) % classes)


TRAIN, TEST = images(20), images(10, seed=1)


def test_a_permutation_moves_the_same_pixels_of_every_image_and_both_parts() -> None:
    stream = continual.permuted(TRAIN, TEST, num_tasks=3, seed=5)
    for task in stream:
        before, after = TRAIN.x.flatten(1), task.train.x.flatten(1)
        columns = [next(j for j in range(16) if torch.equal(after[:, i], before[:, j])) for i in range(16)]
        assert sorted(columns) == list(range(16))
        assert torch.equal(task.test.x.flatten(1), TEST.x.flatten(1)[:, columns])
        assert torch.equal(task.transform(TEST.x), task.test.x)
        assert torch.equal(task.train.y, TRAIN.y)


def test_the_seed_decides_and_a_longer_stream_begins_like_a_shorter_one() -> None:
    short, long, other = (
        continual.permuted(TRAIN, TEST, num_tasks=n, seed=seed) for n, seed in ((2, 0), (4, 0), (2, 1))
    )
    assert torch.equal(short[1].train.x, long[1].train.x)
    assert not torch.equal(short[1].train.x, other[1].train.x)
    assert not torch.equal(short[0].train.x, short[1].train.x)


def test_rotation_by_right_angles_is_exact() -> None:
    for quarter in range(4):
        assert torch.equal(continual.streams.rotate(TRAIN.x, 90.0 * quarter), torch.rot90(TRAIN.x, -quarter, (2, 3)))


def test_rotated_starts_unturned_and_stays_below_the_largest_angle() -> None:
    stream = continual.rotated(TRAIN, TEST, num_tasks=5, seed=1, max_angle=30.0)
    assert torch.equal(stream[0].train.x, TRAIN.x)
    angles = [float(task.name.removeprefix("rotation by ").removesuffix("°")) for task in stream]
    assert max(angles) <= 30.0
    assert len(set(angles)) > 1
    with pytest.raises(ValueError, match="needs images"):
        continual.rotated(Examples(torch.zeros(2, 3), torch.zeros(2).long()), TEST, num_tasks=2)


def test_split_deals_out_every_example_once() -> None:
    stream = continual.split(TRAIN, TEST, num_tasks=5)
    assert [sorted(task.train.y.unique().tolist()) for task in stream] == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert sum(len(task.train) for task in stream) == len(TRAIN)
    assert sum(len(task.test) for task in stream) == len(TEST)
    assert all(task.outputs is None for task in stream)


def test_split_with_heads_lets_only_the_tasks_classes_compete() -> None:
    stream = continual.split(TRAIN, TEST, num_tasks=5, heads=True, seed=3)
    assert sorted(sum(stream.heads, ())) == list(range(10))
    task, logits = stream[1], torch.randn(50, 10)
    closed = continual.task_logits(logits, task.outputs)
    assert set(closed.argmax(-1).tolist()) == set(task.outputs)
    offsets = continual.competitors(stream)
    for t in stream:
        assert torch.equal(
            logits[: len(t.train)] + offsets[t.train.y], continual.task_logits(logits[: len(t.train)], t.outputs)
        )


@pytest.mark.parametrize(("tasks", "why"), [(6, "at most 5"), (3, "divisor"), (0, "at least 1")])
def test_split_refuses_what_the_classes_do_not_give(tasks: int, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        continual.split(TRAIN, TEST, num_tasks=tasks)


def test_multi_head_moves_labels_to_outputs_of_their_own() -> None:
    stream = continual.multi_head(continual.permuted(TRAIN, TEST, num_tasks=3))
    assert stream.num_outputs == 30
    assert stream[2].outputs == tuple(range(20, 30))
    assert torch.equal(stream[2].train.y, TRAIN.y + 20)
    assert torch.equal(stream[2].test.y, TEST.y + 20)


def test_own_tasks_must_have_one_shape_and_examples() -> None:
    other = Examples(torch.zeros(3, 5), torch.zeros(3).long())
    with pytest.raises(ValueError, match=r"task 2 has train inputs of shape \(5,\), task 1 of shape \(1, 4, 4\)"):
        continual.from_tasks([(TRAIN, TEST), (other, other)])
    with pytest.raises(ValueError, match="task 1 has no test examples"):
        continual.from_tasks([(TRAIN, Examples(TEST.x[:0], TEST.y[:0]))])
    with pytest.raises(ValueError, match="at least 1 task"):
        continual.from_tasks([])


def test_a_stream_without_boundaries_drifts_from_task_to_task() -> None:
    zeros = Examples(torch.zeros(1000, 1), torch.zeros(1000).long())
    ones = Examples(torch.ones(700, 1), torch.ones(700).long())
    stream = continual.from_tasks([(zeros, zeros), (ones, ones)])
    shares = []
    for progress in (0.0, 0.5, 0.75, 0.999):
        generator = torch.Generator().manual_seed(0)
        x, y = continual.draw_batch(stream[0], stream[1], torch.arange(1000), progress, 0.5, generator)
        assert torch.equal(x[:, 0].long(), y)
        shares.append(float(x.mean()))
    assert shares[:2] == [0.0, 0.0]
    assert shares[2] == pytest.approx(0.5, abs=0.05)
    assert shares[3] > 0.98
    assert zeros.x.sum() == 0  # the task itself is untouched


def test_indices_outside_the_stream_are_refused() -> None:
    stream = continual.permuted(TRAIN, TEST, num_tasks=2)
    for index in (-1, 2):
        with pytest.raises(IndexError, match="tasks 0 to 1"):
            stream[index]
