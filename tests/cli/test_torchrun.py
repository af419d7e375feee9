"""Several real processes under torchrun: killed, terminated, silent, on a full disk; and what is refused."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bayesbinn.training.checkpoint import has_checkpoint, load_checkpoint
from tests.runs import TINY, blobs_file, final_state

SETTINGS = {**TINY, "epochs": 60, "augment": "crop-flip", "checkpoint_steps": 1}
TOTAL = 60 * 3


class Job:
    """One torchrun of two workers on the run in `run`."""

    def __init__(self, environment, data, run, *options, launcher=(), **settings):
        words = [w for k, v in {**SETTINGS, **settings}.items() for w in (f"--{k.replace('_', '-')}", str(v))]
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *launcher]
        train = ["-m", "bayesbinn", "train", data, *words, "--output", str(run), "--resume", *options]
        self.run = run
        self.process = subprocess.Popen(
            [sys.executable, *torchrun, *train],
            env={**environment, "PYTHONWARNINGS": "default"},  # torch's own launcher warns
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def workers(self):
        """Process ids, in the order of the ranks."""
        pid = self.process.pid
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def steps_done(self):
        if not has_checkpoint(self.run):
            return 0
        progress = load_checkpoint(self.run)[2]["progress"]
        return progress["epoch"] * 3 + progress["batch"]

    def wait_for_steps(self, count):
        goal = self.steps_done() + count
        while self.steps_done() < goal:
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.002)

    def end(self):
        """(status, our own lines on stderr)."""
        _, err = self.process.communicate(timeout=240)
        own = [line for line in err.splitlines() if line.startswith(("error: ", "stopped and saved: "))]
        return self.process.returncode, own


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return blobs_file(tmp_path_factory.mktemp("torchrun") / "set.npz", shape=(8, 8))


@pytest.fixture
def start(environment, data, tmp_path):
    jobs = []

    def start(*options, **more):
        jobs.append(Job(environment, data, tmp_path / "run", *options, **more))
        return jobs[-1]

    yield start
    for job in jobs:
        for pid in job.workers() if job.process.poll() is None else []:
            os.kill(pid, signal.SIGKILL)
        job.process.kill()
        job.process.communicate()


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    run = tmp_path_factory.mktemp("torchrun") / "undisturbed"
    source = Path(__file__).parents[2] / "src"
    job = Job({**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}, data, run)
    assert job.end() == (0, [])
    return final_state(run)


@pytest.mark.slow
def test_a_killed_worker_is_started_anew(start, tmp_path, undisturbed):
    job = start(launcher=("--max-restarts", "3"))
    rng = random.Random(1)
    for _ in range(3):
        job.wait_for_steps(rng.randint(3, 10))
        time.sleep(rng.random() * 0.02)
        os.kill(rng.choice(job.workers()), signal.SIGKILL)
    status, _ = job.end()
    assert status == 0
    assert final_state(tmp_path / "run") == undisturbed


@pytest.mark.slow
def test_terminated_together_and_on_a_full_disk(start, tmp_path, undisturbed):
    run = tmp_path / "run"
    job = start()
    job.wait_for_steps(4)
    job.process.send_signal(signal.SIGTERM)  # torchrun passes it on
    _, said = job.end()
    assert said == [f"stopped and saved: continue with bayesbinn train --output {run} --resume"]
    done = job.steps_done()
    assert 4 <= done < TOTAL
    assert sorted(p.name for p in run.iterdir()) == ["checkpoint.safetensors", "config.toml"] + ["metrics.jsonl"] * (
        done >= 3
    )

    size = (run / "checkpoint.safetensors").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))
    try:
        full = start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    status, said = full.end()
    assert status != 0
    assert said == ["error: [Errno 27] File too large"]
    assert full.steps_done() == done
    load_checkpoint(run)  # and it is whole

    again = start()
    assert again.end() == (0, [])
    assert final_state(run) == undisturbed


@pytest.mark.slow
def test_a_silent_worker_counts_as_gone(start, tmp_path):
    job = start("--timeout", "3")
    job.wait_for_steps(4)
    silent = job.workers()[1]
    os.kill(silent, signal.SIGSTOP)
    began = time.monotonic()
    while len(job.workers()) > 1 and job.process.poll() is None:  # rank 0 gives up; torchrun then ends the silent one
        time.sleep(0.1)
        if time.monotonic() - began > 5:
            os.kill(silent, signal.SIGCONT)
    status, said = job.end()
    assert status != 0
    assert time.monotonic() - began < 60
    assert any(line.startswith("error: rank 0 of 2 lost another one (") for line in said), said
    load_checkpoint(tmp_path / "run")


# --- what is refused: without a second process ---


@pytest.fixture
def rank(monkeypatch):
    """Make this process a rank of two, as torchrun would."""

    def make(number):
        for name, value in (("RANK", number), ("LOCAL_RANK", number), ("WORLD_SIZE", 2), ("MASTER_PORT", 1)):
            monkeypatch.setenv(name, str(value))
        monkeypatch.setenv("MASTER_ADDR", "localhost")

    return make


@pytest.mark.parametrize("command", ["evaluate", "predict", "continual", "inspect", "export", "bench", "reproduce"])
def test_other_commands_are_for_one_process(cli, rank, command):
    rank(0)
    done = cli(command, "anything")
    assert done.exit_code == 2
    assert (
        done.stderr == f"error: bayesbinn {command} runs in one process, this is one of 2: call it without torchrun\n"
    )
    rank(1)
    done = cli(command, "anything")
    assert (done.exit_code, done.output) == (2, "")


def test_the_configuration_is_printed_once(cli, rank):
    rank(0)
    assert "batch_size" in cli("train", "--print-config").stdout
    rank(1)
    assert cli("train", "--print-config").output == ""


def test_sharding_needs_company(cli, tmp_path):
    done = cli("train", "--sharding", "full", "--output", tmp_path / "run")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: sharding 'full' splits λ over several processes and this is the only one: ")
    assert not (tmp_path / "run").exists()


def test_half_an_environment(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = cli("train", "--output", tmp_path / "run")
    assert done.exit_code == 2
    assert "WORLD_SIZE is 2 but RANK" in done.stderr
