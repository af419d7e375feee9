"""Whatever a user can get wrong: status 2, one sentence with the value and the fix, and nothing written or lost."""

# ruff: noqa: E501  (a table: one case per line)

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from tests.runs import blobs, contents

TRAIN = ("train", "npz:good.npz", "--output", "new", "--width", 16, "--depth", 1, "--epochs", 1)
NAN = np.full((40, 8), np.nan)


@pytest.fixture
def place(folder, tmp_path, monkeypatch):
    """A working directory with good and bad data, runs, and folders."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BAYESBINN_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "datasets", None)
    good = blobs()
    np.savez("good.npz", **good)
    for name, change in (
        ("lacking", {"y_test": None}),
        ("nan", {"x_test": NAN}),
        ("halves", {"y_train": good["y_train"] + 0.5}),
        ("lengths", {"y_train": good["y_train"][:-1]}),
        ("shapes", {"x_test": np.zeros((40, 9))}),
        ("classes", {"y_test": np.full(40, 5)}),
        ("empty", {"x_train": np.zeros((0, 8)), "y_train": np.zeros(0, int)}),
    ):
        np.savez(f"{name}.npz", **{k: v for k, v in (good | change).items() if v is not None})
    (tmp_path / "half.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:2000])
    (tmp_path / "text.npz").write_text("not an archive")
    for name, text in (
        ("key", "epoch = 3"),
        ("type", 'epochs = "3"'),
        ("range", "lr = -1.0"),
        ("syntax", "epochs = = 3"),
        ("table", "[train]\nepochs = 3"),
    ):
        (tmp_path / f"{name}.toml").write_text(text)
    for name in ("images", "vectors", "ste", "float"):
        shutil.copytree(folder / name, tmp_path / name)
    for name in ("truncated", "swapped", "gone", "newer", "edited"):
        shutil.copytree(folder / "images", tmp_path / name)
    file = "checkpoint.safetensors"
    (tmp_path / "truncated" / file).write_bytes((tmp_path / "truncated" / file).read_bytes()[:-100])
    shutil.copy(folder / "vectors" / file, tmp_path / "swapped" / file)
    (tmp_path / "gone" / file).unlink()
    save_file({}, tmp_path / "newer" / file, {"checkpoint": '{"format": 99}'})
    config = tmp_path / "edited" / "config.toml"
    config.write_text(config.read_text().replace("width = 16", "width = 17"))
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("important")
    (tmp_path / "void").mkdir()
    for name, array in (("x", np.zeros((3, 8, 8))), ("wide", np.zeros((3, 9, 9))), ("none", np.zeros((0, 8, 8))),
                        ("nan", np.full((3, 8, 8), np.nan))):  # fmt: skip
        np.save(f"{name}.npy", array)
    (tmp_path / "x.csv").write_text("1,2")
    (tmp_path / "fields.csv").write_text("a,b,label\n1,2,0\n1,5,2,1\n")
    (tmp_path / "doubled.csv").write_text("a,a,label\n1,2,0\n")
    np.savez("maps.npz", **blobs((64, 4, 4)))
    (tmp_path / "x.png").write_bytes(b"no image")
    return tmp_path


def data(name):
    return ("train", name, *TRAIN[2:])


CASES = [
    # commands and options: click's own words
    (("trian",), "No such command 'trian'"),
    ((*TRAIN, "--epoch", 3), r"No such option '?--epoch'?.*--epochs"),
    ((*TRAIN, "--epochs", "many"), "'--epochs': 'many' is not a valid integer"),
    ((*TRAIN, "--model", "resnet"), "unknown model 'resnet': did you mean 'resnet18'"),
    (("train", "digits"), "Missing option '--output': name a folder for the run"),
    (("evaluate",), "Missing argument 'RUN...'"),
    (("predict", "images"), "Missing argument 'FILES...'"),
    (("evaluate", "images", "--samples", -1), "'--samples': -1 is not in the range x>=0"),
    (("predict", "images", "x.npy", "--samples", -1), "'--samples': -1 is not in the range x>=0"),
    (("evaluate", "images", "--seed", 2**70), f"'--seed': {2**70} is not in the range 0<=x<=4294967295"),
    # settings
    ((*TRAIN, "--method", "bayesbin"), "unknown method 'bayesbin': did you mean 'bayesbinn'"),
    ((*TRAIN, "--lr", -1), r"lr must be at least 0, got -1\.0"),
    ((*TRAIN, "--lr", "nan"), "lr must be at least 0, got nan"),
    ((*TRAIN, "--lr", "1e300"), r"lr must be at most 1000000000, got 1e\+300"),
    ((*TRAIN, "--num-data", -1), "num_data must be at least 0, got -1"),
    ((*TRAIN, "--kl-weight", 0), r"kl_weight must be above 0, got 0\.0"),
    ((*TRAIN, "--form", "plain", "--lr", 2), r"lr must be in \[0, 1\], .*, got 2\.0"),
    ((*TRAIN, "--method", "bayesbinn-2020", "--temperature", 0), r"temperature must be above 0, got 0\.0"),
    ((*TRAIN, "--method", "bayesbinn-2020", "--temperature", -2), r"temperature must be above 0, got -2\.0"),
    ((*TRAIN, "--temperature", 1), r"method 'bayesbinn' takes no temperature: leave it out \(it is for method bayesbinn-2020; estimator concrete\)"),
    ((*TRAIN, "--method", "ste", "--num-data", 10), "method 'ste' takes no num_data: leave it out"),
    ((*TRAIN, "--method", "float", "--init", "zeros"), "method 'float' takes no init: leave it out"),
    ((*TRAIN, "--epochs", 0), "epochs must be at least 1, got 0"),
    ((*TRAIN, "--batch-size", 101), "batch_size 101 exceeds the 100 training examples: lower it"),
    ((*TRAIN, "--validation", 1), r"validation must be at most 0\.9, got 1\.0"),
    ((*TRAIN, "--seed", 2**32), "seed must be at most 4294967295, got 4294967296"),
    ((*TRAIN, "--device", "abacus"), r"device 'abacus' is not available \(.*\): use cpu, cuda or mps"),
    ((*TRAIN, "--model", "resnet18"), r"model 'resnet18' needs images of at least 8×8 pixels, .*: use model 'mlp'"),
    ((*TRAIN, "--augment", "crop-flip"), "augment 'crop-flip' needs images"),
    ((*TRAIN, "--real-ends"), "real_ends leaves no binary layer in an mlp of depth 1: use a depth of 2 or more"),
    (("train", "--method", "bayesbin", "--print-config"), "unknown method 'bayesbin': did you mean 'bayesbinn'"),
    # recipes
    ((*TRAIN, "--config", "none.toml"), r"no recipe at none\.toml: give --config an existing TOML file"),
    ((*TRAIN, "--config", "key.toml"), "unknown setting 'epoch': did you mean 'epochs'"),
    ((*TRAIN[:4], "--config", "type.toml"), "epochs must be a whole number, got '3'"),
    ((*TRAIN, "--config", "range.toml"), r"lr must be at least 0, got -1\.0"),
    ((*TRAIN, "--config", "syntax.toml"), r"cannot read syntax\.toml as TOML: .*line 1"),
    ((*TRAIN, "--config", "table.toml"), "unknown setting 'train'"),
    ((*TRAIN, "--config", "."), r"cannot read \. as TOML"),
    # data
    (data("minst"), "unknown data set 'minst': did you mean 'mnist'"),
    (data("mnist"), r"no data set mnist: set BAYESBINN_DATA to a folder with mnist\.npz \(it is not set; .*pip install"),
    (data("hf:some/set"), r"hf:some/set needs Hugging Face datasets: pip install 'bayesbinn\[data\]'"),
    (data("npz:none.npz"), r"no file at none\.npz: give an existing"),
    (data("csv:none.csv"), r"no file at none\.csv: give an existing CSV file"),
    (data("npz:half.npz"), r"cannot read half\.npz \(.*\): write it again with numpy\.savez"),
    (data("npz:text.npz"), r"cannot read text\.npz \(.*\): write it again"),
    (data("npz:lacking.npz"), r"lacking\.npz lacks y_test: it must hold x_train, y_train, x_test, y_test"),
    (data("npz:nan.npz"), r"nan\.npz: x_test holds NaN, infinity or .*: clean the data first"),
    (data("npz:halves.npz"), r"halves\.npz: y_train holds label 0\.5: labels must be whole"),
    (data("npz:lengths.npz"), r"lengths\.npz: y_train has shape \(99,\), its inputs need \(100,\): one label per input"),
    (data("npz:shapes.npz"), r"shapes\.npz: inputs of x_train and x_test differ in shape, \(8,\) and \(9,\): make"),
    (data("npz:classes.npz"), r"classes\.npz: y_test holds class 5, training knows 0, 1, 2: leave it out, or train on it"),
    (data("npz:empty.npz"), r"empty\.npz: x_train is empty, of shape \(0, 8\): give at least one"),
    (data("imagefolder:void"), r"no images under void/train: expected void/train/CLASS/\*\.png"),
    # output folders
    ((*TRAIN, "--output", "images"), "images already holds a run: continue it with --resume, or choose another --output"),
    ((*TRAIN, "--output", "foreign"), "foreign exists and is not an empty folder: choose another --output"),
    ((*TRAIN, "--output", "foreign", "--resume"), "foreign exists and is not an empty folder"),
    ((*TRAIN, "--output", "x.csv"), r"x\.csv exists and is not an empty folder: choose another --output"),
    ((*TRAIN, "--output", "x.csv/run"), r"cannot write in .*x\.csv: choose another --output"),
    # resuming
    (("train", "--output", "images", "--resume", "--lr", 0.5), r"images was started with lr = .*, not 0\.5: resume it unch"),
    (("train", "digits", "--output", "images", "--resume"), "images was started with data = 'npz:.*', not 'digits'"),
    (("train", "--output", "truncated", "--resume"), r"truncated/checkpoint.safetensors is damaged \(.*\): restore it from"),
    (("train", "--output", "swapped", "--resume"), r"swapped/config.toml has data = 'npz:.*images.npz', training began with 'npz:.*vectors.npz': set it back"),
    (("train", "--output", "edited", "--resume"), "edited/config.toml has width = 17, training began with 16: set it back"),
    # using runs
    *(
        case
        for command in (("evaluate",), ("inspect",), ("predict", "x.npy"))
        for case in (
            ((command[0], "nowhere", *command[1:]), "nowhere holds no run: train one with bayesbinn train --output now"),
            ((command[0], "foreign", *command[1:]), "foreign holds no run: train one with"),
            ((command[0], "gone", *command[1:]), "gone holds no checkpoint yet: train it with .* --output gone --resume"),
            ((command[0], "truncated", *command[1:]), r"truncated/checkpoint.safetensors is damaged \(.*\): restore it"),
            ((command[0], "newer", *command[1:]), "has format 99, this version reads up to 1: update bayesbinn"),
            ((command[0], "edited", *command[1:]), "checkpoint of edited is of another network"),
        )
    ),
    (("evaluate", "images", "--device", "abacus"), r"device 'abacus' is not available \(.*\): use cpu"),
    (("evaluate", "images", "--data", "npz:good.npz"), r"good\.npz has inputs of shape \(8,\), the network takes \(1, 8, 8\)"),
    (("evaluate", "images", "--data", "digits"), "digits: y_train holds class 3, training knows 0, 1, 2: leave it out, or train on it"),
    (("evaluate", "images", "--data", "minst"), "unknown data set 'minst': did you mean 'mnist'"),
    (("evaluate", "images", "--ood", "npz:good.npz"), r"good\.npz has inputs of shape \(8,\), the network takes \(1, 8, 8\): choose"),
    (("evaluate", "images", "--ood", "minst"), "unknown data set 'minst': did you mean 'mnist'"),
    (("evaluate", "vectors", "--corruptions"), r"corruptions need images \(N, C, H, W\), the inputs have shape \(40, 8\)"),
    (("evaluate", "images", "vectors"), "vectors has input shape 8, images has 1, 8, 8: an ensemble needs runs of the same"),
    (("evaluate", "images", "--no-report", "--report", "r.html"), "--report names a report and --no-report wants none: leave one"),
    (("evaluate", "images", "--voters", "ensemble"), "voters 'ensemble' needs at least two RUNs, got 1"),
    (("evaluate", "images", "--scale"), r"--scale needs examples that images has not trained on.*--validation 0\.1"),
    (("predict", "images", "none-such.npy"), r"no file at none-such\.npy: give an existing"),
    (("predict", "images", "x.csv"), r"x\.csv is empty, of shape \(0, 2\): give at least one input"),
    (("predict", "images", "wide.npy"), r"wide\.npy has inputs of shape \(1, 9, 9\), the network takes \(1, 8, 8\)"),
    (("predict", "images", "none.npy"), r"none\.npy is empty, of shape \(0, 8, 8\): give at least one input"),
    (("predict", "images", "nan.npy"), r"nan\.npy holds NaN, infinity or .*: clean the data first"),
    (("predict", "images", "x.png"), r"cannot read the image x\.png \(.*\): replace or remove it"),
    (("predict", "images", "lacking.npz"), r"lacking\.npz has inputs of shape \(8,\), the network takes \(1, 8, 8\)"),
    (("predict", "images", "x.txt"), r"cannot read x\.txt: \.txt suffix, expected \.npy, \.npz, \.csv or an image"),
    (data("csv:fields.csv"), r"fields\.csv, line 3 has 4 fields, the header 3 \(a decimal comma\? write 1\.5\): mend"),
    (data("csv:doubled.csv"), r"doubled\.csv has two columns named 'a': rename one, or remove it"),
    (data("npz:maps.npz"), r"x_train has shape \(100, 64, 4, 4\), whose channels may be first or last: say which"),
    (("predict", "images", "void"), "cannot read void: no suffix, expected"),
]  # fmt: skip


def names(arguments):
    return " ".join(map(str, arguments)).replace(" --output new --width 16 --depth 1 --epochs 1", "")


@pytest.mark.parametrize(("arguments", "message"), CASES, ids=[names(arguments) for arguments, _ in CASES])
def test_bad_input(cli, place, arguments, message):
    before = contents(place)
    done = cli(*arguments)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    *usage, error = done.stderr.splitlines()
    assert error.lower().startswith("error: ")
    assert re.search(message, error), error
    assert all(line == "" or line.startswith(("Usage: ", "Try 'main ")) for line in usage), usage
    assert contents(place) == before


def test_divergence_is_an_error_too_and_leaves_no_bad_checkpoint(cli, place):
    done = cli(*TRAIN, "--real-lr", 1e9, "--epochs", 9)
    assert done.exit_code == 2
    assert re.search(r"^error: .* became .* training stopped, the last good checkpoint", done.stderr)
    assert len(done.stderr.splitlines()) == 1
    assert not (place / "new" / "checkpoint.safetensors").exists()


OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")


@pytest.mark.skipif(not OVERCOMMIT.exists() or OVERCOMMIT.read_text().strip() == "1", reason="would take the memory")
def test_out_of_memory_is_one_sentence(cli, place):
    before = contents(place)
    done = cli(*TRAIN, "--width", 10**6, "--depth", 3)
    assert done.exit_code == 1
    assert done.stderr == "error: out of memory: take a smaller network, batch size or data set\n"
    assert contents(place) == before


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder(cli, place):
    (place / "void").chmod(0o500)
    done = cli(*TRAIN, "--output", "void/run")
    assert done.exit_code == 2
    assert re.search(r"^error: cannot write in .*void: choose another --output$", done.stderr.strip())


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that refuses even root")
def test_a_folder_that_cannot_be_made_is_one_sentence(cli, place):
    done = cli(*TRAIN, "--output", "/proc/self/run")
    assert done.exit_code in (1, 2)
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def test_missing_pillow(cli, place, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    done = cli("predict", "images", "x.png")
    assert done.exit_code == 2
    assert done.stderr == "error: reading image files needs Pillow: pip install 'bayesbinn[data]'\n"


def test_the_real_process_says_the_same(place, environment):
    command = [sys.executable, "-m", "bayesbinn", "evaluate", "foreign"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: foreign holds no run: train one with bayesbinn train --output foreign\n"
