"""Fuzz the reader and the compiled runtime with damaged and malicious files, under AddressSanitizer and UBSan.

    python tests/fuzz/fuzz_bbnn.py --files 100000 --output benchmarks/results/fuzz.json

builds the library with both sanitizers into a temporary folder, restarts itself with them loaded, and feeds it three
kinds of mutants in turn: bytes of the file changed (most fail the checksum); fields of the plan changed and the
checksum made to fit (what an attacker writes); and the words of the program changed behind the Python checks (what the
C library must refuse alone).  Mutants that are accepted are run.  Any finding of a sanitizer aborts with its report.
"""

import argparse
import contextlib
import copy
import ctypes
import datetime
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
NUMBERS = [0, 1, -1, 2, 3, 7, 8, 63, 64, 127, 128, 255, 1 << 15, 1 << 16, 1 << 24, (1 << 24) + 1, 1 << 28, 1 << 31]
NUMBERS += [(1 << 31) - 1, 1 << 32, 1 << 40, (1 << 63) - 1, -(1 << 31), -(1 << 63)]
VALUES: list[Any] = [*NUMBERS, None, True, "", "x", [], {}, [1], [1, 1], [0, 0], 0.5, 1e-45, 1e30, 1e308, -1.5]
MAX_MACS, MAX_MEMORY = 1 << 21, 1 << 28
PLANS = 40  # random plans of float operations among the files that are mutated


def restart_with_sanitizers(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        configure = ["cmake", "-S", str(ROOT), "-B", folder, "-DBBN_SANITIZE=ON", "-DBBN_WERROR=ON"]
        subprocess.run(configure, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["cmake", "--build", folder, "-j2"], check=True, stdout=subprocess.DEVNULL)
        found = [
            subprocess.run(
                ["gcc", f"-print-file-name={name}"], check=True, capture_output=True, text=True
            ).stdout.strip()
            for name in ("libasan.so", "libubsan.so")
        ]
        environment = os.environ | {
            "FUZZ_COMPILER": subprocess.check_output(["gcc", "-dumpfullversion"], text=True).strip(),
            "FUZZ_LIBRARY": str(Path(folder) / "_bayesbinn.so"),
            "LD_PRELOAD": " ".join(found),
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=4096",
            "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        }
        return subprocess.run([sys.executable, __file__, *arguments], env=environment, check=False).returncode


def mutate_bytes(raw: bytes, random_: random.Random) -> bytes:
    damaged = bytearray(raw)
    for _ in range(random_.choice([1, 1, 2, 8])):
        position = random_.randrange(len(damaged)) if len(damaged) > 1 else 0
        damaged = damaged or bytearray(1)
        match random_.randrange(5):
            case 0:
                damaged[position] ^= 1 << random_.randrange(8)
            case 1:
                damaged[position] = random_.randrange(256)
            case 2:
                del damaged[position : position + random_.randrange(1, 64)]
            case 3:
                damaged[position:position] = random_.randbytes(random_.randrange(1, 64))
            case _:
                damaged = damaged[: position + 1]
    return bytes(damaged)


def mutate_plan(plan: dict[str, Any], tensors: dict[str, Any], random_: random.Random) -> None:
    """Change a few fields anywhere in the plan, and now and then a tensor."""
    for _ in range(random_.choice([1, 1, 1, 2, 4])):
        places: list[tuple[Any, Any]] = []

        def walk(node: Any, places: list[tuple[Any, Any]] = places) -> None:
            for key in list(node) if isinstance(node, dict) else range(len(node)):
                places.append((node, key))
                if isinstance(node[key], dict | list):
                    walk(node[key])

        walk(plan)
        node, key = random_.choice(places)
        match random_.randrange(6):
            case 0 if isinstance(node, dict):
                del node[key]
            case 1:
                node[key] = json.loads(json.dumps(random_.choice(places)[0]))
            case 2 if isinstance(node[key], int) and not isinstance(node[key], bool):
                node[key] += random_.choice([-2, -1, 1, 2, 16])
            case 3 if isinstance(node, list):
                node.append(json.loads(json.dumps(node[key])))
            case 4 if tensors and random_.random() < 0.5:
                name = random_.choice(list(tensors))
                flat = tensors[name].reshape(-1)
                tensors[name] = flat[: random_.randrange(len(flat) + 1)].copy()
            case _:
                node[key] = copy.deepcopy(random_.choice(VALUES))


def fuzz(files: int, seed: int) -> dict[str, Any]:
    sys.path[:0] = [str(ROOT / "src"), str(ROOT)]
    from bayesbinn import _native
    from bayesbinn.runtime import FormatError, Network
    from bayesbinn.runtime.container import read, write
    from bayesbinn.runtime.native_engine import ERROR_BYTES, encode
    from bayesbinn.runtime.program import check

    library = _native.load_library(Path(os.environ["FUZZ_LIBRARY"]))
    assert library is not None
    _native._open = lambda: library  # type: ignore[assignment]
    corpus = [path.read_bytes() for path in sorted(Path(os.environ["FUZZ_CORPUS"]).glob("*.bbnn"))]
    random_, counts, isas = random.Random(seed), Counter[str](), _native.instruction_sets()
    programs = [(check(read(raw)), *encode(check(read(raw)))) for raw in corpus]
    started = time.monotonic()
    for i in range(files):
        os.environ["BAYESBINN_ISA"] = isas[i % len(isas)]
        if i % 3 < 2:
            raw = random_.choice(corpus)
            if i % 3 == 0:
                mutant = mutate_bytes(raw, random_)
            else:
                container = read(raw)
                plan, tensors = json.loads(json.dumps(container.plan)), dict(container.tensors)
                mutate_plan(plan, tensors, random_)
                try:
                    mutant = write(plan, {k: np.asarray(v, v.dtype.newbyteorder("=")) for k, v in tensors.items()})
                except (ValueError, UnicodeEncodeError):
                    counts["not writable"] += 1
                    continue
            try:
                program = check(read(mutant))
                network = Network(program, max_memory=MAX_MEMORY, max_operations=MAX_MACS)
                network.run(np.ones((2, *program.input_shape), np.float32), random_.randint(0, program.num_samples))
                counts["accepted and run"] += 1
            except FormatError:
                counts["refused"] += 1
            except ValueError as error:
                if "allows" not in str(error):
                    raise
                counts["accepted, too large to run here"] += 1
            except MemoryError:
                counts["refused for memory"] += 1
            continue
        program, words, data = random_.choice(programs)
        words = words.copy()
        for _ in range(random_.choice([1, 1, 2, 4])):
            at = random_.randrange(len(words))
            words[at] = random_.choice([random_.choice(NUMBERS), int(words[at]) + random_.choice([-1, 1, 8])]) % (
                1 << 63
            )
        length = random_.choice([len(words)] * 9 + [random_.randrange(len(words))])
        data = data[
            : random_.choice([len(data)] * 9 + [random_.randrange(len(data))])
        ].copy()  # exact, so that ASan sees
        error = ctypes.create_string_buffer(ERROR_BYTES)
        net = library.bbn_create(
            words.ctypes.data,
            length,
            data.ctypes.data,
            len(data),
            _native.isa_index(library, isas[i % len(isas)]),
            1,
            MAX_MEMORY,
            error,
            ERROR_BYTES,
        )
        if not net:
            counts["program refused"] += 1
            continue
        counts["program accepted"] += 1
        with contextlib.suppress(MemoryError):
            run_program(library, net, words, counts)
        library.bbn_free(net)
    seconds = round(time.monotonic() - started)
    print(f"{files:,} mutants in {seconds} s: {dict(counts)}")
    return {"seconds": seconds, "findings": 0, "outcomes": dict(sorted(counts.items()))}


def run_program(library: ctypes.CDLL, net: int, words: np.ndarray, counts: Counter[str]) -> None:
    """Run an accepted program, if its sizes (worked out anew from the words) are small."""
    from bayesbinn.runtime.native_engine import KINDS, OP_WORDS

    shapes, cost = [tuple(int(n) for n in words[1:4])], 0
    for w in words[5:].reshape(-1, OP_WORDS)[: int(words[0])].tolist():
        channels, *size = shapes[w[1]]
        kind = KINDS[w[0]]
        window = w[0] <= 3
        taps = 1
        if window:
            pairs = zip(size, w[4:6], w[6:8], w[8:10], w[10:12], strict=True)
            size = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in pairs]
            taps = w[4] * w[5]
        if w[0] <= 1:
            taps *= channels
            channels = w[3]
        if kind == "flatten":
            channels, size = channels * size[0] * size[1], [1, 1]
        elif kind in ("view", "constant"):
            channels, *size = w[24:27]
        elif kind == "matmul":
            taps, channels = channels, shapes[w[2]][2 if w[22] else 0]
        elif kind == "recurrent":
            channels //= (3, 4, 1, 1)[w[22] & 3]
            taps = 4 * channels
        elif kind == "concat":
            whole = [channels, *size]
            whole[w[22]] += shapes[w[2]][w[22]]
            channels, *size = whole
        shapes.append((channels, *size))
        cost += channels * size[0] * size[1] * taps
    if cost > MAX_MACS or np.prod(shapes[0]) > MAX_MACS:
        counts["program too large to run here"] += 1
        return
    x = np.ones(2 * int(np.prod(shapes[0])), np.float32)
    out = np.empty(2 * int(np.prod(shapes[-1])), np.float32)
    if library.bbn_run(net, x.ctypes.data, len(x), 0, 1, out.ctypes.data, len(out)):
        raise AssertionError("the library refuses the sizes that its program has")
    counts["program run"] += 1


def write_corpus(folder: Path) -> None:
    sys.path[:0] = [str(ROOT / "src"), str(ROOT)]
    import torch

    import bayesbinn as bb
    from bayesbinn.runtime.container import write
    from tests.deploy.nets import Sign, convnext, mlp, resnet, trained, vit
    from tests.deploy.plans import random_plan

    torch.manual_seed(0)
    nets = {"mlp": (mlp((20, 9, 5)), (20,)), "resnet": (resnet(), (3, 12, 12))}
    nets |= {"convnext": (convnext(), (3, 8, 8)), "vit": (vit(), (3, 8, 8))}
    for seed in range(PLANS):
        (folder / f"plan-{seed}.bbnn").write_bytes(write(*random_plan(seed)))
    nets["sign"] = (trained(torch.nn.Sequential(Sign(), torch.nn.Conv1d(3, 5, 3, padding=1))), (3, 9))
    for name, (net, shape) in nets.items():
        for activations in ("int8", "int16"):
            raw = bb.deploy.pack(net, num_samples=1, activations=activations, input_shape=shape)  # type: ignore[arg-type]
            (folder / f"{name}-{activations}.bbnn").write_bytes(raw)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="its part `mutations` is replaced")
    arguments = parser.parse_args()
    if "FUZZ_LIBRARY" in os.environ:
        result = {
            "command": "python tests/fuzz/fuzz_bbnn.py " + " ".join(sys.argv[1:]),
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "tools": "AddressSanitizer and UBSan of gcc " + os.environ["FUZZ_COMPILER"],
            **fuzz(arguments.files, arguments.seed),
        }
        if arguments.output:
            from bayesbinn.files import update_json

            update_json(arguments.output, mutations=result)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder))
        os.environ["FUZZ_CORPUS"] = folder
        return restart_with_sanitizers(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
