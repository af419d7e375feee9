"""Real processes, killed, terminated and interrupted: the run goes on to the very bits of an undisturbed one."""

import random
import signal
import subprocess
import sys
import time

import pytest

from bayesbinn.files import HOST
from bayesbinn.training import train
from bayesbinn.training.checkpoint import has_checkpoint, load_checkpoint
from tests.runs import TINY, blobs_file, contents, final_state

SETTINGS = {**TINY, "epochs": 60, "augment": "crop-flip", "checkpoint_steps": 1}  # a checkpoint after every step
TOTAL = 60 * 3


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return blobs_file(tmp_path_factory.mktemp("kill") / "set.npz", shape=(8, 8))


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    run = tmp_path_factory.mktemp("kill") / "undisturbed"
    train({**SETTINGS, "data": data}, run)
    return final_state(run)


@pytest.fixture
def start(data, tmp_path, environment):
    """Start or resume the run in a process of its own."""
    words = [w for k, v in SETTINGS.items() for w in (f"--{k.replace('_', '-')}", str(v))]
    command = [sys.executable, "-m", "bayesbinn", "train", data, *words, "--output", str(tmp_path / "run"), "--resume"]
    processes = []

    def start():
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def steps_done(run):
    if not has_checkpoint(run):
        return 0
    progress = load_checkpoint(run)[2]["progress"]
    return progress["epoch"] * 3 + progress["batch"]


def wait_for_steps(run, count, process):
    """Until the run has saved `count` more steps; the test fails if the process ends before."""
    goal = steps_done(run) + count
    while steps_done(run) < goal:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


def stop(process, number):
    """Send the signal, check the exit status, and return what the process has printed to stderr."""
    process.send_signal(number)
    _, err = process.communicate(timeout=240)
    assert process.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 0, signal.SIGINT: 130}[number], err
    return err


@pytest.mark.slow
def test_killed_terminated_and_interrupted_at_random_moments(start, data, tmp_path, undisturbed):
    rng = random.Random(2020)
    run, done = tmp_path / "run", [0]
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT):
        process = start()
        wait_for_steps(run, rng.randint(1, 10), process)
        time.sleep(rng.random() * 0.01)  # anywhere in a step or a save
        err = stop(process, number)
        done.append(steps_done(run))
        assert done[-2] < done[-1] < TOTAL
        if number != signal.SIGKILL:  # asked kindly, it says how to go on, and has saved the last step
            assert err == f"stopped and saved: continue with bayesbinn train --output {run} --resume\n"
            assert not any(name.endswith((".new", ".lock")) for name in contents(run))
    assert "evaluation.json" not in contents(run)
    train({}, run, resume=True)
    assert final_state(run) == undisturbed
    assert set(contents(run)) == {
        *("config.toml", "checkpoint.safetensors", "metrics.jsonl", "evaluation.json", "report.html"),
    }


def test_two_processes_one_folder(start, tmp_path, undisturbed):
    first = start()
    wait_for_steps(tmp_path / "run", 1, first)
    first.send_signal(signal.SIGSTOP)  # it would end before the second begins
    second = start()
    _, err = second.communicate(timeout=240)
    first.send_signal(signal.SIGCONT)
    assert (second.returncode, first.poll()) == (2, None)
    said = f"error: {tmp_path / 'run'} is being written by process {first.pid} on {HOST}: wait for its end, or choose"
    assert err == f"{said} another --output\n"
    _, err = first.communicate(timeout=240)
    assert (first.returncode, err) == (0, "")
    assert final_state(tmp_path / "run") == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_many_times(start, tmp_path, undisturbed, seed):
    rng = random.Random(seed)
    run = tmp_path / "run"
    for _ in range(6):
        process = start()
        wait_for_steps(run, rng.randint(0, 12), process)
        time.sleep(rng.random() * 0.03)
        process.kill()
        process.wait()
    _, err = start().communicate(timeout=240)
    assert err == ""
    assert final_state(run) == undisturbed
