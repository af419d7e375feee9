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
    "call",
    "compiler",
)
ARM, RISCV = "arm-none-eabi-gcc", "riscv64-unknown-elf-gcc"
# bytes by `python benchmarks/mcu.py --code`, gcc 12.2 with the flags of the Makefile
TARGETS: dict[str, Target] = {
    "any": Target("cc"),
    "cortex-m0plus": Target(
        ARM, ("-mcpu=cortex-m0plus", "-mthumb"), (208, 62, 112, 62, 324, 1196, 300, 24, 74, 100, 62, 72, 34, 16, 4179)
    ),
    "cortex-m3": Target(
        ARM, ("-mcpu=cortex-m3", "-mthumb"), (216, 62, 108, 70, 296, 1048, 280, 28, 64, 78, 52, 84, 32, 15, 1533)
    ),
    "cortex-m4": Target(
        ARM,
        ("-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"),
        (220, 74, 100, 68, 304, 1036, 272, 30, 74, 98, 60, 66, 32, 16, 13),
    ),
    "cortex-m7": Target(
        ARM,
        ("-mcpu=cortex-m7", "-mthumb", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard"),
        (218, 74, 104, 68, 324, 1016, 280, 30, 74, 98, 60, 60, 32, 16, 9),
    ),
    "riscv32": Target(
        RISCV,
        ("-march=rv32imac", "-mabi=ilp32"),
        (322, 94, 148, 78, 374, 1066, 310, 26, 94, 126, 80, 100, 58, 18, 3865),
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
