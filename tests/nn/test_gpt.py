"""The decoder of text: only the past counts, the cache changes nothing, and shapes that do not go together."""

import pytest
import torch

from bayesbinn import binarize_
from bayesbinn.nn.gpt import GPT, GPTShape, rotated, rotations

SHAPE = GPTShape(vocabulary=11, width=24, depth=2, heads=3, kv_heads=1, feed_forward=40, context=12)


def test_a_token_says_nothing_about_those_before_it() -> None:
    net = GPT(SHAPE).eval()
    tokens = torch.randint(0, 11, (2, 12))
    other = tokens.clone()
    other[:, 7] = (other[:, 7] + 1) % 11
    same = (net(tokens) == net(other)).flatten(2).all(-1)
    assert bool(same[:, :7].all())
    assert not bool(same[:, 7:].any())


@pytest.mark.parametrize("cut", [(1,) * 12, (5, 1, 6), (4, 8)])
def test_in_pieces_with_a_cache_is_as_in_one(cut: tuple[int, ...]) -> None:
    net = binarize_(GPT(SHAPE), quiet=True).eval()
    tokens = torch.randint(0, 11, (2, 12))
    cache: list[tuple[torch.Tensor, torch.Tensor]] = []
    pieces = [net(part, cache) for part in tokens.split(list(cut), 1)]
    torch.testing.assert_close(torch.cat(pieces, 1), net(tokens), rtol=1e-4, atol=1e-5)


def test_rotated_products_depend_on_the_distance_alone() -> None:
    cosine, sine = rotations(10, 8)
    q, k = torch.randn(8), torch.randn(8)
    turned = [(rotated(q, cosine[i], sine[i]) * rotated(k, cosine[i - 3], sine[i - 3])).sum() for i in (3, 7, 9)]
    torch.testing.assert_close(turned[0].expand(3), torch.stack(turned))
    torch.testing.assert_close(rotated(q, cosine[4], sine[4]).norm(), q.norm())


def test_every_matrix_becomes_binary_and_the_embedding_if_asked() -> None:
    net = binarize_(GPT(SHAPE), quiet=True)
    real = {name for name, p in net.named_parameters() if p.ndim > 1 and not name.endswith("natural")}
    assert real == {"token_embd.weight"}
    both = binarize_(GPT(SHAPE), include=["*", torch.nn.Embedding], quiet=True)
    assert not [name for name, p in both.named_parameters() if p.ndim > 1 and not name.endswith("natural")]


def test_too_many_tokens() -> None:
    with pytest.raises(ValueError, match=r"the text has 13 tokens, the network's context holds 12: shorten it"):
        GPT(SHAPE)(torch.zeros(1, 13))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 5}, "width 24 is not an even number for each of 5 heads: take a multiple of 10"),
        ({"heads": 8}, "width 24 is not an even number for each of 8 heads"),
        ({"heads": 4, "kv_heads": 3}, "heads 4 is no multiple of kv_heads 3"),
    ],
)
def test_shapes_that_do_not_go_together(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GPTShape(**{**vars(SHAPE), **change})
