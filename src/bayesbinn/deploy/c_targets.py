"""What the C export is compiled for, and how large its code is there."""

from dataclasses import dataclass

LAYER_BYTES = 34 * 4  # of the struct in export_c.c.txt, with 32-bit pointers


@dataclass(frozen=True)
class Target:
    """A kind of processor: its compiler and flags; bytes of each of `PARTS`, None where unknown."""

    compiler: str
    flags: tuple[str, ...] = ()
    code: tuple[int, ...] | None = None


# parts of export_c.c.txt, a line of the network's function, and the compiler's own routines (float without hardware)
PARTS = (
    *(
        "core",
        "levels",
        "measure",
        "window",
        "outputs",
        "binary",
        "real",
        "copy",
        "add",
        "affine",
        "clamp",
        "sign",
        "pass",
    ),
    *("exp", "apply", "function", "lanes", "softmax", "normalize", "matmul", "broadcast", "concat", "view", "gather"),
    *("recurrent", "call", "compiler"),
)
ARM, RISCV = "arm-none-eabi-gcc", "riscv64-unknown-elf-gcc"
# bytes by `python benchmarks/mcu.py --code`, gcc 12.2 with the flags of the Makefile
TARGETS: dict[str, Target] = {
    "any": Target("cc"),
    "cortex-m0plus": Target(
        ARM,
        ("-mcpu=cortex-m0plus", "-mthumb"),
        (
            *(208, 62, 112, 62, 324, 1196, 300, 24, 74, 100, 62, 72, 34),
            *(216, 666, 62, 118, 256, 930, 360, 212, 144, 114, 54, 802, 17, 4245),
        ),
    ),
    "cortex-m3": Target(
        ARM,
        ("-mcpu=cortex-m3", "-mthumb"),
        (
            *(216, 62, 108, 70, 296, 1048, 280, 28, 64, 78, 52, 84, 32),
            *(216, 650, 52, 114, 248, 898, 306, 184, 114, 102, 42, 840, 17, 1563),
        ),
    ),
    "cortex-m4": Target(
        ARM,
        ("-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"),
        (
            *(220, 74, 100, 68, 304, 1036, 272, 30, 74, 98, 60, 66, 32),
            *(208, 600, 60, 112, 236, 926, 276, 204, 114, 106, 46, 840, 17, 41),
        ),
    ),
    "cortex-m7": Target(
        ARM,
        ("-mcpu=cortex-m7", "-mthumb", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard"),
        (
            *(218, 74, 104, 68, 324, 1016, 280, 30, 74, 98, 60, 60, 32),
            *(208, 604, 60, 118, 232, 954, 276, 200, 114, 106, 46, 836, 17, 37),
        ),
    ),
    "riscv32": Target(
        RISCV,
        ("-march=rv32imac", "-mabi=ilp32"),
        (
            *(322, 94, 148, 78, 374, 1068, 314, 26, 96, 128, 80, 100, 58),
            *(264, 906, 78, 176, 260, 858, 334, 210, 154, 150, 68, 840, 19, 4037),
        ),
    ),
}


@dataclass(frozen=True)
class Budget:
    """Bytes that an exported network takes.

    Attributes:
        ram: static memory; the stack and the caller's x and y come to it.
        constants: bits, scales, and the tables of layers.
        code: 0 where the target's compiler is unknown.
    """

    target: str
    ram: int
    constants: int
    code: int

    @property
    def flash(self) -> int:
        """Constants and code."""
        return self.constants + self.code

    @property
    def compiler(self) -> str:
        return TARGETS[self.target].compiler

    @property
    def flags(self) -> tuple[str, ...]:
        return TARGETS[self.target].flags

    def __str__(self) -> str:
        code = f"{self.code:,} of code on {self.target}" if self.code else "and its code"
        return f"{self.ram:,} bytes of RAM, {self.constants:,} bytes of constants, {code}"


def budget_of(target: str, ram: int, arrays: int, layers: int, used: set[str], calls: list[str]) -> Budget:
    """The budget of a network whose arrays take `arrays` bytes and whose function has the lines `calls`.

    Raises:
        ValueError: for an unknown target.
    """
    if target not in TARGETS:
        raise ValueError(f"target must be one of {', '.join(TARGETS)}, got {target!r}")
    sizes = TARGETS[target].code
    code = 0
    if sizes is not None:
        of = dict(zip(PARTS, sizes, strict=True))
        code = of["core"] + of["compiler"] + of["call"] * len(calls) + sum(of[part] for part in used)
    return Budget(target, ram, arrays + LAYER_BYTES * layers, code)
