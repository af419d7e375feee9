"""The library for another machine, by zig's C compiler: python csrc/cross.py TARGET [FILE]

TARGET is one of `TARGETS` below; without FILE it is built beside this script, except `wasm32-wasi`, which replaces
the copy that the package ships.  Needs `pip install ziglang` of the version below, with which equal input gives equal
bytes.

The WebAssembly module imports nothing and has one thread; it exports what inference needs of bayesbinn.h, with malloc
and free.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ZIG = "0.17.1"
CSRC = Path(__file__).resolve().parent
SHIPPED = CSRC.parent / "src" / "bayesbinn" / "deploy" / "web" / "runtime.wasm"
COMMON = ["claim", "float_ops", "isa", "layer", "memory", "net", "portable", "predict", "program", "run"]
DESKTOP: dict[str, list[str]] = {"decoder": [], "pool": [], "training": [], "training_portable": []}
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vbmi", "-mavx512vpopcntdq", "-mavx512vnni"]
# the files of one instruction set are compiled for it, and no others
OWN: dict[str, dict[str, list[str]]] = {
    "x86_64": {
        **DESKTOP,
        "avx2": ["-mavx2"],
        "training_avx2": ["-mavx2"],
        "avx512": ["-mavx2", *AVX512, "-mprefer-vector-width=512"],
        "training_avx512": ["-mavx2", *AVX512, "-mprefer-vector-width=512"],
    },
    "aarch64": {**DESKTOP, "neon": [], "training_neon": []},
    "wasm32": {"pool_alone": [], "wasm": ["-msimd128"]},
}
FLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"]
STRICT = ["-Wall", "-Wextra", "-Werror"]
EXPORTS = (
    "bbn_abi bbn_isa_count bbn_isa_name bbn_isa_find bbn_create bbn_run bbn_num_inputs bbn_num_outputs bbn_free "
    "malloc free"
)
SHARED = ["-shared", "-Wl,-s"]
TARGETS: dict[str, list[str]] = {  # and how they are linked
    "wasm32-wasi": [
        "-mexec-model=reactor",
        "-O3",
        "-Wl,--strip-all",
        *(f"-Wl,--export={name}" for name in EXPORTS.split()),
    ],
    "x86_64-windows-gnu": SHARED,
    "x86_64-linux-musl": SHARED,
    "x86_64-linux-gnu.2.17": SHARED,
    "aarch64-linux-musl": SHARED,
    "aarch64-linux-gnu.2.17": SHARED,
    "aarch64-macos": ["-shared"],
    "x86_64-macos": ["-shared"],
}
ENDINGS = {"wasm": ".wasm", "windows": ".dll", "macos": ".dylib", "linux": ".so"}


def zig(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "ziglang", "cc", *arguments], check=True, cwd=CSRC)


def build(target: str, out: Path, *, link: Sequence[str] | None = None, main: Path | None = None) -> None:
    """Write the library for `target` to `out`, or with `main`, a C file, a program that holds it.

    Raises:
        subprocess.CalledProcessError: if zig refuses.
    """
    own = OWN[target.split("-")[0]]
    flags = ["-target", target, *FLAGS, *STRICT, *([] if "windows" in target or "wasm" in target else ["-fPIC"])]
    with tempfile.TemporaryDirectory() as folder:
        objects = []
        for name in sorted([*COMMON, *own]):
            objects.append(f"{folder}/{name}.o")
            zig(*flags, *own.get(name, []), "-c", f"{name}.c", "-o", objects[-1])
        if main is not None:
            objects.append(f"{folder}/main.o")
            zig(*flags, "-c", str(main), "-o", objects[-1])
        zig("-target", target, *(TARGETS[target] if link is None else link), *objects, "-o", str(out))


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python csrc/cross.py TARGET [FILE], with TARGET one of {', '.join(TARGETS)}")
    chosen = sys.argv[1]
    ending = next(end for system, end in ENDINGS.items() if system in chosen)
    given = Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else CSRC / f"bayesbinn-{chosen}{ending}"
    written = SHIPPED if chosen == "wasm32-wasi" and len(sys.argv) == 2 else given
    build(chosen, written)
    print(f"wrote {written}, {written.stat().st_size:,} bytes")
