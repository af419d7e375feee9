"""Class names and inputs in the formats of others: any text survives a C compiler."""

import shutil
import subprocess

import pytest
import torch
from torch import nn

import bayesbinn as bb
from bayesbinn.deploy import About, load_program, pack, save_c
from bayesbinn.deploy.about_texts import about_texts

NAMES = ("Zürich", 'the "7"', "a\\b??/", "/* no */\nline")


def program():
    net = bb.binarize_(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4)), quiet=True).eval()
    about = About(target="*/ town /*", classes=NAMES, range=(-1.0, 1.0))
    return load_program(pack(net, input_shape=(3,), calibration=torch.randn(4, 3), about=about))


def test_class_names_in_the_c_header_are_the_names(tmp_path):
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    save_c(program(), tmp_path)
    assert "x: float32 of shape 3 (numbers), from -1 to 1 as in training" in (tmp_path / "net.h").read_text()
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "net.h"\nstatic const char *const names[NET_OUTPUTS] = NET_CLASSES;\n'
        'int main(void) { for (int i = 0; i < NET_OUTPUTS; i++) printf("%s%c", names[i], 0); return 0; }\n'
    )
    files = [str(tmp_path / name) for name in ("main.c", "net.c", "a")]
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *flags, *files[:2], "-o", files[2]], check=True)
    printed = subprocess.run([files[2]], check=True, capture_output=True).stdout
    assert tuple(printed.decode().split("\0")[:-1]) == NAMES


def test_the_metadata_of_an_onnx_model_hold_them():
    onnx = pytest.importorskip("onnx")
    found = about_texts(program())
    model = onnx.load_from_string(bb.deploy.to_onnx(program()))
    assert {p.key: p.value for p in model.metadata_props} == found
    assert found["input"].startswith("float32 of shape 3 (numbers), from -1 to 1")
    assert "Z\\u00fcrich" in found["classes"]
