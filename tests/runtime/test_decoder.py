"""The decoder of text: the library, its numpy twin, and torch's network say the same; nothing out of range is taken."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesbinn import _native
from bayesbinn.runtime.decoder import Decoder, GPTShape

SHAPE = GPTShape(vocabulary=11, width=24, depth=2, heads=3, kv_heads=1, feed_forward=40, context=12)


def tensors(shape: GPTShape, seed: int = 0, binary_embedding: bool = False) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    sizes = shape.matrices | ({"token_embd": (shape.vocabulary, shape.width)} if binary_embedding else {})
    found: dict[str, Any] = {
        name: (random.choice([-1, 1], size).astype(np.int8), random.uniform(0.5, 1.5, size[0]) / np.sqrt(size[1]))
        for name, size in sizes.items()
    }
    if binary_embedding:
        found["token_embd"] = found["token_embd"][0], random.uniform(0.5, 1.5, shape.width)
    found |= {name: random.uniform(0.5, 1.5, shape.width) for name in shape.norms}
    return {"token_embd": random.normal(size=(shape.vocabulary, shape.width))} | found


def twins(shape: GPTShape, given: dict[str, Any]) -> list[Decoder]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAYESBINN_ISA", "numpy")
        slow = Decoder(shape, given)
    decoders = [slow]
    for name in _native.instruction_sets():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BAYESBINN_ISA", name)
            decoders.append(Decoder(shape, given))
    return decoders


@given(
    st.builds(
        lambda v, head, groups, kv, depth, f, t: GPTShape(v, 2 * head * groups * kv, depth, groups * kv, kv, f, t),
        *(st.integers(1, n) for n in (70, 20, 3, 2, 2, 90, 20)),
    ),
    st.booleans(),
    st.integers(0, 99),
)
def test_every_instruction_set_has_the_same_bits_and_numpy_almost(shape: GPTShape, binary: bool, seed: int) -> None:
    slow, *fast = twins(shape, tensors(shape, seed, binary))
    tokens = np.random.default_rng(seed).integers(0, shape.vocabulary, shape.context).tolist()
    for decoder in (slow, *fast):
        decoder.prompt(tokens[:-1]) if len(tokens) > 1 else None
    wanted, *found = [decoder.step(tokens[-1]) for decoder in (slow, *fast)]
    for logits in found:
        assert np.array_equal(logits, found[0])
        # a value on the edge between two levels may fall on either side: a step of one level in 255
        assert np.abs(logits - wanted).max() <= 0.05 * max(1.0, np.abs(wanted).max())


@pytest.mark.parametrize("binary_embedding", [False, True])
def test_it_is_the_network_but_for_eight_bits(binary_embedding: bool) -> None:
    torch = pytest.importorskip("torch")
    from bayesbinn import binarize_
    from bayesbinn.nn.gpt import GPT
    from bayesbinn.text import decoder_of

    include = ["*", torch.nn.Embedding] if binary_embedding else "*"
    net = binarize_(GPT(SHAPE), include=include, quiet=True).eval()
    tokens = torch.randint(0, 11, (1, 12))
    whole = net(tokens)[0].detach().numpy()
    decoder = decoder_of(net)
    for t, token in enumerate(tokens[0].tolist()):
        found = decoder.step(token)
        assert np.abs(found - whole[t]).max() < 0.05 * np.abs(whole).max()
        assert np.corrcoef(found, whole[t])[0, 1] > 0.999
    decoder.reset()
    assert np.array_equal(decoder.prompt(tokens[0].tolist()), found)


def test_draws_of_a_posterior_are_those_of_torch() -> None:
    torch = pytest.importorskip("torch")
    from bayesbinn import binarize_
    from bayesbinn.nn.gpt import GPT
    from bayesbinn.text import decoders_of, steps_of

    net = binarize_(GPT(SHAPE), magnitude=0.3, quiet=True).eval()
    tokens = torch.randint(0, 11, (12,)).tolist()
    for ours, theirs in zip(decoders_of(net, 3, seed=4), steps_of(net, 3, seed=4), strict=True):
        a, b = ours.prompt(tokens), theirs.prompt(tokens)
        assert np.abs(a - b).max() < 0.05 * np.abs(b).max()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("output", None, "the decoder lacks the tensor output"),
        ("output", np.ones((11, 24)), "output is real, this decoder needs ±1 and a scale for each output"),
        ("blk.1.ffn_up", (np.zeros((40, 24)), np.ones(40)), r"blk.1.ffn_up must be ±1 of shape \(40, 24\)"),
        ("blk.1.ffn_up", (np.ones((40, 23)), np.ones(40)), r"blk.1.ffn_up must be ±1 of shape \(40, 24\)"),
        ("blk.0.attn_q", (np.ones((24, 24)), np.ones(23)), "the scale of blk.0.attn_q must be finite numbers"),
        ("output_norm", np.full(24, np.nan), "output_norm must be finite numbers"),
        ("token_embd", np.ones((10, 24)), r"token_embd must be finite numbers of shape \(11, 24\)"),
    ],
)
def test_tensors_that_do_not_fit(name: str, value: Any, message: str) -> None:
    given = tensors(SHAPE) | {name: value}
    if value is None:
        del given[name]
    with pytest.raises(ValueError, match=message):
        Decoder(SHAPE, given)


def test_tokens_that_do_not_fit() -> None:
    for decoder in twins(SHAPE, tensors(SHAPE)):
        with pytest.raises(ValueError, match="token 11 is none of the 11 of this network"):
            decoder.prompt([0, 11])
        with pytest.raises(ValueError, match="token -1 is none"):
            decoder.step(-1)
        decoder.prompt([1] * 12)
        with pytest.raises(ValueError, match="the text has 13 tokens, the network's context holds 12"):
            decoder.step(0)
        with pytest.raises(ValueError, match="shorten it"):
            decoder.prompt([])
        decoder.reset()
        assert decoder.position == 0


def test_logits_that_are_not_finite() -> None:
    huge = tensors(SHAPE)
    huge["output"] = huge["output"][0], np.full(11, 3e38)
    for decoder in twins(SHAPE, huge):
        with np.errstate(over="ignore"), pytest.raises(ValueError, match="a logit is not finite"):
            decoder.prompt([1, 2])


@pytest.mark.parametrize("change", [{"context": 0}, {"vocabulary": 1 << 30}])
def test_sizes_out_of_range(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be from 1 to 2"):
        GPTShape(**{**vars(SHAPE), **change})
