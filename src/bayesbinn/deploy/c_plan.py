"""How a program runs in little memory: which steps, in what form each value is kept, and where.

A value that only binary layers read is kept as the levels that they read, a quarter of its floats.  Where their step
follows from the value's own range, the operation that makes it then runs twice: once for the range, once for the
levels.  A value whose floats fit anyway is made once.  A pool that follows a layer at once is computed with it.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ..runtime.operation import Activation, Op
from ..runtime.program import Program

INPUT, OUTPUT = "x", "y"  # the caller's memory
ELEMENTWISE = ("add", "multiply", "affine", "clamp", "sign", "function", "quantize")
ALIGN = 4


@dataclass(frozen=True)
class Buffer:
    """A value in memory: which of the program, and as levels of which activation, or as floats (None)."""

    value: int
    activation: Activation | None
    size: int

    @property
    def item(self) -> int:
        """Bytes of one number."""
        if self.activation is None:
            return 4
        return 2 if self.activation.kind == "int16" else 1

    @property
    def bytes(self) -> int:
        return -(-self.size * self.item // ALIGN) * ALIGN


@dataclass(frozen=True)
class Step:
    """One call: an operation (None: only quantise), the pool computed with it, what it reads and writes.

    `twice`: the range of the output is found first.
    """

    op: Op | None
    pool: Op | None
    sources: tuple[Buffer, ...]
    to: Buffer
    twice: bool = False


@dataclass(frozen=True)
class Plan:
    """Steps, and the offset of each buffer in one piece of memory of `ram` bytes."""

    steps: tuple[Step, ...]
    offsets: dict[Buffer, int]
    ram: int


def plan(program: Program, ram: int | None = None) -> Plan:
    """The plan of least memory; in the room that it leaves, up to `ram` bytes, values are kept that it makes twice."""
    least = _placed(program, frozenset())
    room, chosen = max(ram or 0, least.ram), least
    once: frozenset[int] = frozenset()
    costs = {step.to.value: _work(step) for step in least.steps if step.twice}
    for value in sorted(costs, key=lambda v: -costs[v]):
        tried = _placed(program, once | {value})
        if tried.ram <= room:
            once, chosen = once | {value}, tried
    return chosen


def _work(step: Step) -> int:
    return step.op.num_operations if step.op is not None else step.to.size


def _placed(program: Program, once: frozenset[int]) -> Plan:
    steps = tuple(_steps(program, once))
    offsets, ram = _place(steps, len(program.ops))
    return Plan(steps, offsets, ram)


def _steps(program: Program, once: frozenset[int]) -> Iterable[Step]:
    """The steps; values in `once` are made once, as floats."""
    ops = program.ops
    root = {0: 0}  # a flattened value is the value itself, channels come first in memory; not if both are needed
    for index, op in enumerate(ops):
        source = root[op.inputs[0]] if op.inputs else 0
        needed = source == 0 or sum(source in map(root.get, other.inputs) for other in ops[:index]) > 0
        alias = op.kind == "flatten" and not (index + 1 == len(ops) and needed)
        root[index + 1] = source if alias else index + 1
    last = root[len(ops)]
    readers: dict[int, list[int]] = {value: [] for value in root.values()}
    for index, op in enumerate(ops):
        if root[index + 1] == index + 1:
            for value in dict.fromkeys(root[i] for i in op.inputs):
                readers[value].append(index)
    size = {value: math.prod(ops[value - 1].shape if value else program.input) for value in readers}
    pools = {}  # of the value before a pool, the pool's index
    for index, op in enumerate(ops):
        before = root[op.inputs[0]] if op.inputs else 0
        maker = ops[before - 1].kind if before else ""
        apart = all(k <= s for k, s in zip(op.kernel, op.stride, strict=True))
        alone = readers.get(before) == [index] and before != last
        if op.kind in ("max_pool", "avg_pool") and maker in ("binary", "real") and alone and apart:
            pools[before] = index

    def kept(value: int) -> Activation | None:
        """The activation whose levels are all that is read of a value, or None."""
        found = {_reads_as(ops[index]) for index in readers[value]}
        if value in (0, last) or value in once or len(found) != 1:
            return None
        return found.pop()

    made: set[Buffer] = set()
    for index, op in enumerate(ops):
        if root[index + 1] != index + 1 or index in pools.values():
            continue
        sources = []
        for value in (root[i] for i in op.inputs):
            activation = _reads_as(op)
            floats, levels = Buffer(value, None, size[value]), Buffer(value, activation, size[value])
            if activation is not None and kept(value) is None and levels not in made:
                made.add(levels)
                measured = activation.kind != "sign" and activation.step is None
                yield Step(None, None, (floats,), levels, twice=measured)
            sources.append(levels)
        value = pools.get(index + 1, index) + 1
        activation = kept(value)
        twice = activation is not None and activation.kind != "sign" and activation.step is None
        pool = ops[value - 1] if value != index + 1 else None
        to = Buffer(len(ops) if value == last else value, activation, size[value])
        yield Step(op, pool, tuple(sources), to, twice)


def _reads_as(op: Op) -> Activation | None:
    """How the operation reads its input; a recurrent layer quantises its state, not its input."""
    return op.activation if op.kind == "binary" else None


def _place(steps: tuple[Step, ...], output: int) -> tuple[dict[Buffer, int], int]:
    """Offsets of the buffers, the largest first, each as low as those of its time allow; and bytes in all."""
    born: dict[Buffer, int] = {}
    dies: dict[Buffer, int] = {}
    for time, step in enumerate(steps):
        born.setdefault(step.to, time)
        for buffer in step.sources:
            dies[buffer] = time
    outside = {b for b in born.keys() | dies.keys() if b.activation is None and b.value in (0, output)}
    leader: dict[Buffer, Buffer] = {}  # of a buffer that is written over another, that other
    for time, step in enumerate(steps):
        if not step.sources:
            continue
        over = step.sources[0]
        plain = step.op is None or step.op.kind in ELEMENTWISE
        fits = step.to.item <= over.item and step.to.size == over.size
        if plain and fits and over not in outside and step.to not in outside and dies[over] == time:
            leader[step.to] = leader.get(over, over)
    groups: dict[Buffer, list[Buffer]] = {}
    for buffer in born:
        if buffer not in outside:
            groups.setdefault(leader.get(buffer, buffer), []).append(buffer)
    spans = {
        head: (max(b.bytes for b in group), min(born[b] for b in group), max(dies.get(b, born[b]) for b in group))
        for head, group in groups.items()
    }
    offsets: dict[Buffer, int] = {}
    for head in sorted(spans, key=lambda b: (-spans[b][0], spans[b][1])):
        need, start, end = spans[head]
        taken = sorted(
            (offsets[other], offsets[other] + spans[other][0])
            for other in spans
            if other in offsets and spans[other][1] <= end and spans[other][2] >= start
        )
        at = 0
        for low, high in taken:
            if at + need <= low:
                break
            at = max(at, high)
        offsets[head] = at
    ram = max((offsets[head] + spans[head][0] for head in spans), default=0)
    return {buffer: offsets[leader.get(buffer, buffer)] for buffer in born if buffer not in outside}, ram
