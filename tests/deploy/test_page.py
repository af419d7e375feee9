"""docs/inference.md is what its generator writes; the first lines of docs/deploy.md run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import bayesbinn as bb
from benchmarks import anywhere_page, page
from tests.deploy.nets import trained
from tests.pages import codes
from tests.pages import page as text_of


def test_the_page_is_as_its_generator_writes_it() -> None:
    assert page.PAGE.read_text() == page.page(page.load_results())


def test_a_missed_promise_and_a_faster_rival_are_told() -> None:
    slow = {"onnxruntime float32": 10.0, "onnxruntime 2-bit": 2.0, "ours int8": 4.0}
    told = page.losses("1", {"linear 4096², batch 1": {"microseconds": slow}})
    assert told[0] == "- linear 4096², batch 1, threads: 1: 2.50× against onnxruntime float32, 15× wanted."
    assert told[-1].endswith("int8 is slower than onnxruntime 2-bit (low-bit, 2.0× as fast).")


@pytest.mark.parametrize("first", [nn.Conv2d(3, 4, 3), nn.Flatten()])
def test_the_first_lines_of_the_page_pack_and_run_networks_of_images(
    first: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    net, x = nn.Sequential(first, nn.ReLU(), nn.Flatten(), nn.LazyLinear(5)), torch.randn(6, 3, 8, 8)
    net(x)
    trained(net)
    for code in codes(text_of("deploy.md"), "python")[:2]:
        names = {"bb": bb, "net": net, "x": x}
        exec(code, names)
    expected = bb.predict(net, x, 8, seed=0).probs.detach().numpy()
    assert np.abs(names["probs"] - expected).max() < 0.05


def test_the_page_of_places_is_as_its_generator_writes_it() -> None:
    text = anywhere_page.PAGE.read_text()
    assert anywhere_page.render(text) == text
    with pytest.raises(ValueError, match="needs one block between <!-- wasm -->"):
        anywhere_page.render(text.replace("<!-- wasm -->", ""))
