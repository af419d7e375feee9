"""Coverage-guided fuzzing of the compiled reader and runtime with libFuzzer, AddressSanitizer and UBSan (needs clang).

    python tests/fuzz/fuzz_program.py --seconds 300 --output benchmarks/results/fuzz.json

starts from the inputs in tests/fuzz/corpus (made by --seeds from the networks of the tests) and stores what it reached:
executions, edges, and how many inputs the corpus has grown to.  A finding ends it with the input that made it.
"""

import argparse
import datetime
import json
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).with_name("corpus")
MAX_LENGTH, MAX_WORDS = 8192, 600  # bytes of an input, and words of a seed
AVX512 = [
    "-mavx2",
    "-mavx512f",
    "-mavx512bw",
    "-mavx512vl",
    "-mavx512dq",
    "-mavx512vbmi",
    "-mavx512vpopcntdq",
    "-mavx512vnni",
]
SETS = {"avx2": ["-mavx2"], "avx512": AVX512} if platform.machine() in ("x86_64", "AMD64") else {"neon": []}
FLAGS = [
    "-g",
    "-O1",
    "-std=c11",
    "-D_POSIX_C_SOURCE=200809L",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-Wno-unknown-pragmas",
]


def build(folder: Path) -> Path:
    """The fuzzer, in `folder`."""
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    objects = []
    for source in [*sorted((ROOT / "csrc").glob("*.c")), Path(__file__).with_suffix(".c")]:
        isa = source.stem.removeprefix("training_")
        if source.stem == "pool_alone" or (isa in ("avx2", "avx512", "neon", "wasm") and isa not in SETS):
            continue
        objects.append(folder / f"{source.stem}.o")
        coverage = "-fsanitize=fuzzer-no-link"
        command = ["clang", *FLAGS, *sanitize, coverage, *SETS.get(isa, []), "-c", str(source), "-o", str(objects[-1])]
        subprocess.run(command, check=True)
    out = folder / "fuzz_program"
    link = ["clang", *sanitize, "-fsanitize=fuzzer", *map(str, objects), "-lpthread", "-lm", "-o", str(out)]
    subprocess.run(link, check=True)
    return out


def write_seeds(folder: Path) -> None:
    """Programs of small networks of every kind, as the fuzzer reads them."""
    sys.path[:0] = [str(ROOT)]
    import numpy as np
    import torch
    from torch import nn

    import bayesbinn as bb
    from bayesbinn.runtime.container import read, write
    from bayesbinn.runtime.native_engine import encode
    from bayesbinn.runtime.program import check
    from tests.deploy.nets import Sign, mlp, trained
    from tests.deploy.plans import random_plan

    def conv(channels: int, *first: nn.Module, groups: int = 1) -> nn.Module:
        return trained(nn.Sequential(*first, nn.Conv2d(channels, 4, 3, padding=1, stride=2, groups=groups), nn.ReLU()))

    def real() -> nn.Module:
        layers = [nn.Conv2d(2, 4, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 1), nn.AvgPool2d(2), nn.Flatten()]
        return trained(nn.Sequential(*layers, nn.Linear(4, 3)), exclude="0")

    torch.manual_seed(0)
    nets: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
        "mlp": (mlp((9, 7, 3)), (9,)),
        "gather": (conv(2), (2, 5, 5)),
        "taps": (conv(33), (33, 3, 3)),
        "sign": (conv(3, Sign()), (3, 5, 4)),
        "groups": (conv(4, groups=2), (4, 4, 4)),
        "depthwise": (conv(4, groups=4), (4, 4, 4)),
        "real": (real(), (2, 5, 5)),
        "real-groups": (
            trained(nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 1, 1)), exclude="0"),
            (4, 4, 4),
        ),
    }
    folder.mkdir(exist_ok=True)
    for seed in range(16):
        words, data = encode(check(read(write(*random_plan(seed)))))
        if len(words) < MAX_WORDS:
            name = folder / f"plan-{seed}"
            name.write_bytes(np.array([len(words)], np.int64).tobytes() + words.tobytes() + data.tobytes())
    for name, (net, shape) in nets.items():
        for activations in ("int8", "int16"):
            raw = bb.deploy.pack(net, num_samples=1, activations=activations, input_shape=shape)  # type: ignore[arg-type]
            words, data = encode(bb.deploy.load_program(raw))
            (folder / f"{name}-{activations}").write_bytes(
                np.array([len(words)], np.int64).tobytes() + words.tobytes() + data.tobytes()
            )


def fuzz(program: Path, corpus: Path, seconds: int, seed: int) -> dict[str, Any]:
    """Runs the fuzzer; new inputs go into `corpus`.

    Raises:
        SystemExit: with its report, if it finds something.
    """
    limits = [f"-max_len={MAX_LENGTH}", "-timeout=20", "-rss_limit_mb=2048", f"-artifact_prefix={corpus}/finding-"]
    command = [str(program), str(corpus), str(CORPUS), f"-max_total_time={seconds}", f"-seed={seed}", *limits]
    done = subprocess.run([*command, "-print_final_stats=1"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-6000:])
    progress = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)/(\S+)", done.stderr)
    (executions,) = re.findall(r"number_of_executed_units: (\d+)", done.stderr)
    start, end = progress[0], progress[-1]
    return {
        "executions": int(executions),
        "edges reached": int(end[0]),
        "edges reached by the seeds": int(start[0]),
        "features": int(end[1]),
        "seeds": len(list(CORPUS.iterdir())),
        "corpus": int(end[2]),
        "corpus size": end[3],
        "findings": 0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, help="its part `program` is replaced")
    parser.add_argument("--seeds", action="store_true", help="write tests/fuzz/corpus anew")
    options = parser.parse_args()
    if options.seeds:
        write_seeds(CORPUS)
        return
    with tempfile.TemporaryDirectory() as folder:
        grown = Path(folder) / "corpus"
        grown.mkdir()
        found = fuzz(build(Path(folder)), grown, options.seconds, options.seed)
    compiler = subprocess.run(["clang", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    result = {
        "command": "python tests/fuzz/fuzz_program.py " + " ".join(sys.argv[1:]),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "tools": f"libFuzzer, AddressSanitizer and UBSan of {compiler}",
        "seconds": options.seconds,
        **found,
    }
    print(json.dumps(result, indent=1))
    if options.output:
        from bayesbinn.files import update_json

        update_json(options.output, program=result)


if __name__ == "__main__":
    main()
