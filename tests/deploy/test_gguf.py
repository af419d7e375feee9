"""A GGUF file holds the network bit for bit, and stock llama.cpp computes what torch does."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor, nn

from bayesbinn import binarize_, binarizers
from bayesbinn.cli import main
from bayesbinn.data.tokens import BytePairs, Bytes, learn_byte_pairs, read_written, written
from bayesbinn.deploy import read_gguf, save_gguf
from bayesbinn.deploy.gguf_reader import logits
from bayesbinn.nn import NextToken, binary_layers
from bayesbinn.nn.gpt import GPT, GPTShape
from bayesbinn.posterior import draw, sampled_weights
from bayesbinn.runtime.decoder import Decoder
from bayesbinn.runtime.gguf import open_gguf
from bayesbinn.training import load_run, train
from experiments.llama_cpp import LlamaCpp, greedy, measure, unpack

SIZES = {"width": 128, "depth": 2, "heads": 4, "kv_heads": 2, "feed_forward": 256, "context": 32}
TEXT = "The naïve café's 12 cats\tsaw  3 dogs; “they'll run”, I said.\r\n\n  日本語 🙂 e\u0301 \x00\x0b\x7f ½²"


def gpt(vocabulary: int = 256, **settings: Any) -> nn.Sequential:
    """A network with a posterior that nobody trained: random λ, and scales of many sizes and both signs."""
    sizes = {name: settings.pop(name, value) for name, value in SIZES.items()}
    net = nn.Sequential(GPT(GPTShape(vocabulary, **sizes)), NextToken())
    if settings.pop("real", False):
        return net.eval()
    binarize_(net, quiet=True, magnitude=0.5, **settings)
    with torch.no_grad():
        for _, layer in binary_layers(net):
            layer.natural.add_(torch.randn(layer.natural.shape))
            if layer.scale is not None:
                layer.scale.mul_((torch.randn(len(layer.scale)) / 3).exp()).mul_(
                    torch.where(torch.rand(1) < 0.5, -1, 1)
                )
        for norm in (module for module in net.modules() if isinstance(module, nn.RMSNorm)):
            norm.weight.mul_(torch.rand(norm.weight.shape) + 0.5)
    return net.eval()


def log_p(net: nn.Module, tokens: list[int]) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        found: Tensor = net(torch.tensor([tokens]))[0].double().log_softmax(-1)
    return found.numpy()


def test_every_bit_is_where_q1_0_has_it(tmp_path: Path) -> None:
    import gguf

    net = gpt()
    report = save_gguf(net, tmp_path / "net.gguf", *written(""))
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "net.gguf").tensors}
    assert {name.removesuffix(".weight") for name in stored} == {
        name.removeprefix("0.") for name, m in net.named_modules() if "weight" in dir(m)
    }
    layer = net[0].blk[1].ffn_down
    tensor = stored["blk.1.ffn_down.weight"]
    assert tensor.tensor_type.name == "Q1_0"
    assert tensor.data.shape == (128, 2 * 18)
    for row, place in ((0, 0), (5, 7), (127, 255), (64, 128)):
        block = tensor.data[row, place // 128 * 18 :][:18]
        assert block[:2].tobytes() == np.float16(layer.scales[row].item()).tobytes()
        assert (block[2 + place % 128 // 8] >> place % 8 & 1) == (layer.natural[row, place] >= 0)
    assert report.binary == sum(layer.natural.numel() for _, layer in binary_layers(net))
    assert report.num_bytes == (tmp_path / "net.gguf").stat().st_size
    assert 0 < report.difference < 0.05


def test_a_sample_is_one_of_the_posterior_and_the_mode_is_not_touched(tmp_path: Path) -> None:
    net = gpt()
    before = log_p(net, [1, 2, 3])
    save_gguf(net, tmp_path / "net.gguf", *written(""), sample=2, seed=7)
    assert np.array_equal(before, log_p(net, [1, 2, 3]))
    generator = torch.Generator().manual_seed(7)
    first, second = draw(net[0], generator), draw(net[0], generator)
    _, tensors = read_gguf(tmp_path / "net.gguf")
    found = np.sign(tensors["output.weight"]) * np.sign(net[0].output.scales.numpy())[:, None]
    assert np.array_equal(found, second["output"].numpy())
    assert not np.array_equal(found, first["output"].numpy())
    assert not np.array_equal(found, net[0].output.weight.numpy())
    facts, _ = read_gguf(tmp_path / "net.gguf")
    assert facts["bayesbinn.network"] == "sample 2 of seed 7"


def test_a_binary_embedding_is_bits_where_one_scale_will_do(tmp_path: Path) -> None:
    import gguf

    for scale, kind, notes in (("fan_in", "Q1_0", 0), ("learned", "F32", 1)):
        net = gpt(include=["*", nn.Embedding], scale=scale)
        report = save_gguf(net, tmp_path / scale, *written(""))
        kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(tmp_path / scale).tensors}
        assert kinds["token_embd.weight"] == kind
        assert len(report.notes) == notes


KINDS: dict[str, dict[str, Any]] = {
    "binary": {},
    "binary embedding": {"include": ["*", nn.Embedding], "scale": "fan_in"},
    "some real": {"exclude": ["0.output", "*.attn_v"]},
    "float": {"real": True, "width": 48, "feed_forward": 80},
}


@pytest.mark.parametrize("kind", KINDS)
def test_llama_cpp_computes_the_same(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="needs xllamacpp")
    net = gpt(**KINDS[kind])
    save_gguf(net, tmp_path / "net.gguf", *written(""))
    unpack(tmp_path / "net.gguf", tmp_path / "floats.gguf")
    tokens = list(b"What llama.cpp computes, as is.")
    facts, tensors = read_gguf(tmp_path / "net.gguf")
    stored = torch.from_numpy(logits(facts, tensors, np.array(tokens))).double().log_softmax(-1).numpy()
    ours = log_p(net, tokens)
    exact, stock = LlamaCpp(tmp_path / "floats.gguf", 32, exact=True), LlamaCpp(tmp_path / "net.gguf", 32)
    for length in (1, 2, 17, len(tokens)):
        # in float32 it is the same network; stock llama.cpp rounds activations to 8 bits
        assert np.abs(exact.log_p(tokens[:length], 256) - stored[length - 1]).max() < 1e-4
        far = stock.log_p(tokens[:length], 256)
        assert np.abs(far - ours[length - 1]).max() < 0.1 * np.ptp(ours[length - 1])
        assert np.abs(far - ours[length - 1]).mean() < 0.02 * np.ptp(ours[length - 1])


def test_llama_cpp_writes_the_same_text(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="needs xllamacpp")
    net = gpt()
    with sampled_weights(net[0], seed=3):
        ours, found = greedy(net, list(b"Once"), 28)
    save_gguf(net, tmp_path / "net.gguf", *written(""), sample=1, seed=3)
    theirs = LlamaCpp(tmp_path / "net.gguf", 32).complete(list(b"Once"), 28)
    best = found.topk(2).values
    near = (best[:, 0] - best[:, 1] < 0.1).tolist()  # where rounding may choose another token
    sure = near.index(True) if True in near else len(near)
    assert sure > 3
    assert ours[:sure] == theirs[:sure]


def test_llama_cpp_reads_text_as_the_same_tokens(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="needs xllamacpp")
    pairs = learn_byte_pairs([TEXT * 3, "the cats and the dogs they'll run and run "], 320)
    for tokenizer in (Bytes(), pairs):
        net = gpt(tokenizer.vocabulary, depth=1)
        save_gguf(net, tmp_path / "net.gguf", *written(tokenizer.to_json()))
        llama = LlamaCpp(tmp_path / "net.gguf", 32)
        for text in (
            TEXT,
            TEXT[::-1],
            "the cats  and the dogs they'll run",
            "aaaa  aaaa",
            "☐ ☐☐ ÿ",
            "<|endoftext|></s>",
        ):
            assert llama.tokenize(text) == tokenizer.encode(text.encode()).tolist()
    assert isinstance(pairs, BytePairs)
    assert len(pairs.encode(TEXT.encode())) < len(TEXT.encode())


def test_no_token_of_a_text_ends_it(tmp_path: Path) -> None:
    """llama.cpp takes token 11 for the end of a gpt2 text unless the file names another."""
    pytest.importorskip("xllamacpp", reason="needs xllamacpp")
    net = gpt(depth=1)
    save_gguf(net, tmp_path / "net.gguf", *written(""))
    llama = LlamaCpp(tmp_path / "net.gguf", 32)
    for token in (0, 10, 11):
        assert llama.complete([65], 3, {token: 1000.0}) == [token] * 3


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"width": 96}, "width 96 is no multiple of 128, .* train with width 128$"),
        ({"width": 320, "heads": 5, "kv_heads": 5}, "train with width 640$"),
        ({"width": 200}, "train with width 128 or 256$"),
        ({"feed_forward": 200}, "feed_forward 200 is no multiple of 128, .* train with feed_forward 128 or 256$"),
    ],
)
def test_sizes_that_are_no_whole_blocks_are_refused(settings: dict[str, int], says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says):
        save_gguf(gpt(**settings), tmp_path / "net.gguf", *written(""))
    assert not list(tmp_path.iterdir())


def test_what_is_not_the_network_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "net.gguf"
    target.write_text("kept")

    def refused(net: nn.Module, says: str, **settings: Any) -> None:
        with pytest.raises(ValueError, match=says):
            save_gguf(net, target, *written(""), **settings)
        assert [file.name for file in tmp_path.iterdir()] == ["net.gguf"]
        assert target.read_text() == "kept"

    refused(nn.Sequential(nn.Linear(2, 2)), "decoders of text .* is a Linear")
    refused(gpt(257), "got 256 tokens, the network has 257")
    refused(gpt(), "sample must be 0", sample=-1)
    refused(gpt(binarizer=binarizers.SignSTE()), "sample 1 needs a posterior", sample=1)
    hooked = gpt()
    hooked[0].blk[0].ffn_up.register_forward_hook(lambda module, x, y: 2 * y)
    refused(hooked, "computes something else than llama.cpp will")
    astray = gpt()
    astray[0].output.scale.data[3] = float("nan")
    refused(astray, "output holds nan, float16 ends at 65504")

    def damaged(path: Path) -> Any:
        facts, tensors = read_gguf(path)
        tensors["blk.0.attn_k.weight"][3, 5] *= -1
        return facts, tensors

    monkeypatch.setattr("bayesbinn.deploy.gguf.read_gguf", damaged)
    refused(gpt(), "blk.0.attn_k.weight in the file is not the network's")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny runs: binary, one narrow network (ste), float, and of digits."""
    folder = tmp_path_factory.mktemp("gguf")
    (folder / "words.txt").write_text("the cats and the dogs they'll run and run.\n" * 60)
    tiny = {"data": f"text:{folder}/words.txt", "model": "gpt", "depth": 1, "heads": 2, "kv_heads": 1, "context": 32}
    tiny |= {"epochs": 1, "samples": 2, "batch_size": 16, "width": 128, "feed_forward": 128}
    train(tiny, folder / "run")
    train({**tiny, "width": 64, "method": "ste"}, folder / "ste")
    train({**tiny, "width": 64, "method": "float"}, folder / "float")
    train({"data": "digits", "width": 8, "depth": 1, "epochs": 1, "samples": 2}, folder / "digits")
    return folder


def export(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["export", *map(str, arguments), "--format", "gguf"])


def test_a_run_is_exported(runs: Path) -> None:
    done = export(runs / "run")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"wrote {runs / 'run.gguf'}\n"
    assert "weights of one bit" in done.stderr
    facts, tensors = read_gguf(runs / "run.gguf")
    bits = json.loads((runs / "run" / "evaluation.json").read_text())["mode"]["bits_per_byte"]
    assert facts["bayesbinn.bits_per_byte"] == pytest.approx(bits)
    wanted = {"general.name": "run", "general.architecture": "llama", "bayesbinn.network": "mode"}
    wanted |= {"bayesbinn.method": "bayesbinn", "bayesbinn.data": "text:words.txt", "llama.context_length": 32}
    assert {key: facts[key] for key in wanted} == wanted
    net, _, _ = load_run(runs / "run")
    assert np.array_equal(tensors["token_embd.weight"], net[0].token_embd.weight.detach().numpy())
    done = export(runs / "run", "--sample", 2, "--output", runs / "two.gguf", "-q")
    assert (done.exit_code, done.stderr) == (0, "")
    facts, _ = read_gguf(runs / "two.gguf")
    assert facts["bayesbinn.network"] == "sample 2 of seed 0"
    assert "bayesbinn.bits_per_byte" not in facts
    done = export(runs / "float")
    assert done.exit_code == 0, done.stderr
    assert "note: the network has real weights" in done.stderr


def test_the_experiment_measures_a_run(runs: Path) -> None:
    pytest.importorskip("xllamacpp", reason="needs xllamacpp")
    for name, options in (("mode", ()), ("sample", ("--sample", 2, "--seed", 3))):
        assert export(runs / "run", "--output", runs / f"{name}.gguf", *options).exit_code == 0
        found = measure(runs / "run", runs / f"{name}.gguf", count=40, prompt="the ", length=200)
        assert found["same tokens"]
        assert found["greedy"]["tokens"] == 28
        assert found["held-out text"]["tokens"] == 40
        assert found["held-out text"]["largest difference"] < 0.2
        assert found["held-out text, all in float32"]["largest difference"] < 0.02
        assert found["size"]["bytes"] == (runs / f"{name}.gguf").stat().st_size


@pytest.mark.parametrize(
    ("run", "options", "says"),
    [
        ("ste", ("--sample", 1), "is one network (method ste): leave --sample out"),
        ("ste", (), "width 64 is no multiple of 128"),
        ("digits", (), "holds model 'mlp', gguf holds decoders of text: train one with --model gpt"),
        ("words.txt", (), "is a file of bits, gguf is made of the run itself"),
        ("run", ("--samples", 2), "--samples is for bbnn and web: a gguf file holds one network, see --sample"),
        ("run", ("--seed", 2), "--seed has no effect without --sample"),
        ("run", ("--activations", "int16"), "--activations has no effect here"),
        ("run", ("--sample", 0), "0 is not in the range x>=1"),
    ],
)
def test_bad_settings(runs: Path, run: str, options: tuple[object, ...], says: str) -> None:
    done = export(runs / run, "--output", runs / "refused.gguf", *options)
    assert done.exit_code == 2
    assert says in done.stderr
    assert not (runs / "refused.gguf").exists()


def test_sample_is_for_gguf(runs: Path) -> None:
    done = CliRunner().invoke(main, ["export", str(runs / "digits"), "--sample", "2"])
    assert done.exit_code == 2
    assert "--sample is for gguf, not for bbnn" in done.stderr


@pytest.mark.parametrize("kind", ["bbnn", "web", "c"])
def test_other_formats_name_the_one_that_fits(runs: Path, kind: str) -> None:
    done = CliRunner().invoke(main, ["export", str(runs / "run"), "--format", kind])
    assert done.exit_code == 2
    assert (
        f"holds a decoder of text, which a .bbnn file and what is made of one cannot: bayesbinn export {runs}/run"
        in (done.stderr)
    )


def test_without_the_package(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    done = export(runs / "run", "--output", runs / "refused.gguf")
    assert done.exit_code == 2
    assert "the format gguf needs the package gguf: pip install 'bayesbinn[gguf]'" in done.stderr


@pytest.mark.parametrize("vocabulary", [256, 300])
def test_generate_reads_the_file(vocabulary: int, tmp_path: Path) -> None:
    tokenizer: Any = Bytes() if vocabulary == 256 else learn_byte_pairs([TEXT * 9], vocabulary)
    file = tmp_path / "net.gguf"
    net = gpt(tokenizer.vocabulary)
    save_gguf(net, file, *written(tokenizer.to_json()))
    facts, _ = open_gguf(file)
    again = read_written(facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.merges"])
    raw = TEXT.encode()
    assert again.encode(raw).tolist() == tokenizer.encode(raw).tolist()
    assert again.decode(again.encode(raw)) == raw
    decoder, tokens = Decoder.from_gguf(file), tokenizer.encode(raw).tolist()[:20]
    found, whole = decoder.prompt(tokens), net(torch.tensor([tokens]))[0, -1].detach().numpy()
    assert np.abs(found - whole).max() < 0.05 * np.abs(whole).max()
    done = CliRunner().invoke(main, ["generate", str(file), "--prompt", "The", "--length", "5"])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("The")


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        (b"", (), "is no GGUF file that can be read"),
        (b"GGUF" + bytes(100), (), "is no GGUF file that can be read"),
        (None, ("--samples", "2"), "--samples draws from a run"),
        (None, ("--device", "cpu"), "--device is for a run"),
    ],
)
def test_files_that_do_not_write(content: bytes | None, options: tuple[str, ...], says: str, tmp_path: Path) -> None:
    file = tmp_path / "net.gguf"
    if content is None:
        save_gguf(gpt(), file, *written(""))
    else:
        file.write_bytes(content)
    done = CliRunner().invoke(main, ["generate", str(file), *options])
    assert done.exit_code == 2, done.output
    assert says in done.output


def test_scales_that_differ_within_a_row(tmp_path: Path) -> None:
    file = tmp_path / "net.gguf"
    save_gguf(gpt(), file, *written(""))
    tensors = open_gguf(file)[1]
    raw = bytearray(file.read_bytes())
    signs, scales = tensors["blk.1.ffn_down"]
    row = np.float16(scales[0, 0]).tobytes() + np.packbits(signs[0, :128] > 0, bitorder="little").tobytes()
    at = bytes(raw).index(row)
    raw[at : at + 2] = np.float16(2 * scales[0, 0]).tobytes()
    file.write_bytes(bytes(raw))
    with pytest.raises(ValueError, match=r"blk\.1\.ffn_down has several scales in a row"):
        Decoder.from_gguf(file)
