"""Coverage-guided fuzzing of the Python that reads a `.bbnn` file, with atheris (`pip install atheris`).

    python tests/fuzz/fuzz_reader.py --seconds 300 --output benchmarks/results/fuzz.json

The checksum is taken for right, or no mutant would pass it.  A file may only be refused with a FormatError, or run:
then numpy and the compiled library must give the same bits.
"""

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
LIMITS = {"max_memory": 1 << 24, "max_operations": 1 << 16}


def write_seeds(folder: Path) -> None:
    """Small files of every kind, with the checksum of nothing."""
    sys.path[:0] = [str(ROOT)]
    import torch
    from torch import nn

    import bayesbinn as bb
    from bayesbinn.runtime import container
    from tests.deploy.nets import Sign, mlp, trained

    container.checksum = lambda plan, data: ""
    torch.manual_seed(0)
    conv = [nn.Conv2d(2, 4, 3, padding=1), nn.MaxPool2d(2), Sign(), nn.Conv2d(4, 4, 1), nn.AvgPool2d(2), nn.Flatten()]
    nets: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
        "mlp": (mlp((9, 7, 3)), (9,)),
        "conv": (trained(nn.Sequential(*conv, nn.Linear(4, 3)), exclude="0"), (2, 5, 5)),
        "conv1d": (trained(nn.Sequential(nn.Conv1d(3, 3, 3, padding=1, groups=3), nn.Hardtanh())), (3, 9)),
    }
    for name, (net, shape) in nets.items():
        for calibration in (None, torch.randn(4, *shape)):
            raw = bb.deploy.pack(net, num_samples=1, calibration=calibration, input_shape=shape)
            (folder / f"{name}-{calibration is None}.bbnn").write_bytes(raw)


def fuzz(arguments: list[str]) -> None:
    """Runs atheris in this process, which it ends."""
    import atheris

    spec = importlib.util.find_spec("bayesbinn")
    folders = list(spec.submodule_search_locations or []) if spec else []
    sys.meta_path[:] = [finder for finder in sys.meta_path if isinstance(finder, type)]  # of an editable install:
    sys.path.insert(0, str(ROOT / "src"))  # it hides its modules from atheris
    with atheris.instrument_imports(include=["bayesbinn.runtime"]):
        from bayesbinn import _native
        from bayesbinn.runtime import FormatError, Network, container
        from bayesbinn.runtime.program import check
    container.checksum = lambda plan, data: ""
    libraries = [library for folder in folders for library in Path(folder).glob(f"{_native.STEM}.*")]
    found = _native.load_library(libraries[0]) if libraries else None
    _native._open = lambda: found  # type: ignore[assignment]
    engines = [*_native.instruction_sets()[-1:], "numpy"]

    def one(data: bytes) -> None:
        try:
            program = check(container.read(data))
        except FormatError:
            return
        outputs = []
        for os.environ["BAYESBINN_ISA"] in engines:
            try:
                network = Network(program, **LIMITS)
            except ValueError as error:
                if "allows" not in str(error):
                    raise
                return
            x = np.linspace(-2, 2, 2 * int(np.prod(program.input_shape)), dtype=np.float32)
            outputs.append(network.run(x.reshape(2, *program.input_shape), program.num_samples).tobytes())
        if len(set(outputs)) != 1:
            raise AssertionError("numpy and the library differ")

    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


def measure(seconds: int, seed: int) -> dict[str, Any]:
    """What a run of `seconds` reaches.

    Raises:
        SystemExit: with its report, if it finds something.
    """
    with tempfile.TemporaryDirectory() as folder:
        seeds, grown = Path(folder) / "seeds", Path(folder) / "grown"
        seeds.mkdir(), grown.mkdir()
        write_seeds(seeds)
        limits = [f"-max_total_time={seconds}", f"-seed={seed}", "-max_len=4096", "-timeout=20"]
        limits += [f"-artifact_prefix={ROOT}/finding-", "-print_final_stats=1"]
        command = [sys.executable, __file__, "--inside", str(grown), str(seeds), *limits]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit((done.stdout + done.stderr)[-6000:])
    progress = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)/(\S+)", done.stderr)
    (executions,) = re.findall(r"number_of_executed_units: (\d+)", done.stderr)
    return {
        "executions": int(executions),
        "edges reached": int(progress[-1][0]),
        "edges reached by the seeds": int(progress[0][0]),
        "features": int(progress[-1][1]),
        "seeds": 6,
        "corpus": int(progress[-1][2]),
        "corpus size": progress[-1][3],
        "findings": 0,
    }


def main() -> None:
    if sys.argv[1:2] == ["--inside"]:
        fuzz(sys.argv[2:])
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, help="its part `reader` is replaced")
    options = parser.parse_args()
    result = {
        "command": "python tests/fuzz/fuzz_reader.py " + " ".join(sys.argv[1:]),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "tools": f"atheris {importlib.metadata.version('atheris')}",
        "seconds": options.seconds,
        **measure(options.seconds, options.seed),
    }
    print(json.dumps(result, indent=1))
    if options.output:
        from bayesbinn.files import update_json

        update_json(options.output, reader=result)


if __name__ == "__main__":
    main()
