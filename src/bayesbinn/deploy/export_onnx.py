"""A packed network as ONNX: for stock onnxruntime, or with `BipolarQuant` nodes (QONNX) for FINN and hls4ml.

The mode is exported.  Activations stay float, with two exceptions: the 2-bit linear layers of an int8 network, where
onnxruntime rounds them to 8 bits, and QONNX, which says how they were quantised where a fixed step is stored.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.numpy_engine import channels_last, signs, view_indices
from ..runtime.operation import CELLS, Op
from ..runtime.program import Program, user_shape
from .about_texts import about_texts

BLOCK = 32  # of MatMulNBits: the smallest, which wastes least on ragged rows
CUSTOM = "qonnx.custom_op.general"


def to_onnx(program: Program, stock: bool = False) -> bytes:
    """An ONNX model (opset 17) that onnxruntime runs: x (B, *input shape) → y; several inputs are x0, x1, ...

    Linear layers that read int8 or signs become 2-bit MatMulNBits where that is the smallest form (±1 are exactly codes
    1 and 3 around zero point 2), with activations of 8 bits; other weights are int8 with a DequantizeLinear.

    Args:
        program: from `load_program`.
        stock: only operators of the ONNX standard (no MatMulNBits), for other engines.

    Raises:
        ImportError: without the `onnx` package.
    """
    return _Graph(program, qonnx=False, stock=stock).build()


def to_qonnx(program: Program) -> bytes:
    """A QONNX model: weights are float32 through `BipolarQuant`, as are sign activations; fixed int8 and int16
    activations go through `Quant`.

    Raises:
        ImportError: without the `onnx` package.
    """
    return _Graph(program, qonnx=True).build()


class _Graph:
    def __init__(self, program: Program, qonnx: bool, stock: bool = False) -> None:
        self.program, self.qonnx, self.stock = program.of(0), qonnx, stock or qonnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def build(self) -> bytes:
        from onnx import TensorProto, helper

        names, inputs = ["x"], {"x": self.program.input_shape}
        if self.program.input_shapes:
            inputs = {f"x{i}": shape for i, shape in enumerate(self.program.input_shapes)}
            self.nodes.append(
                helper.make_node("Concat", [self.node("Flatten", [n], axis=1) for n in inputs], ["x"], axis=1)
            )
        for index, op in enumerate(self.program.ops):
            names.append(self.op(index, op, [names[i] for i in op.inputs]))
        self.nodes[-1].output[0] = "y"
        batch = "batch"
        graph = helper.make_graph(
            self.nodes,
            "bayesbinn",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, [batch, *shape]) for n, shape in inputs.items()],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, *self.program.output_shape])],
            self.constants,
        )
        domains = {node.domain for node in self.nodes if node.domain}
        imports = [helper.make_opsetid("", 17), *(helper.make_opsetid(domain, 1) for domain in sorted(domains))]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8, producer_name="bayesbinn")
        helper.set_model_props(model, about_texts(self.program))
        raw: bytes = model.SerializeToString()
        return raw

    def constant(self, name: str, value: NDArray[Any] | np.float32) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def node(self, kind: str, inputs: list[str], domain: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], domain=domain or None, **attributes))
        return output

    def op(self, index: int, op: Op, inputs: list[str]) -> str:
        x, rank, prefix = (inputs or ["x"])[0], op.rank, f"op{index}"
        match op.kind:
            case "binary" | "real":
                y = self.product(prefix, op, self.activation(prefix, op, x))
                return self.clamp(prefix, op, self.affine(prefix, op, y))
            case "affine":
                return self.clamp(prefix, op, self.affine(prefix, op, x))
            case "add":
                return self.clamp(prefix, op, self.node("Add", inputs))
            case "clamp":
                return self.clamp(prefix, op, x)
            case "sign":
                return self.sign(prefix, x)
            case "flatten":
                return self.node("Flatten", [x], axis=1)
            case "max_pool":
                return self.node("MaxPool", [x], **_window(op, rank))
            case "avg_pool":
                return self.clamp(prefix, op, self.node("AveragePool", [x], count_include_pad=1, **_window(op, rank)))
            case "multiply":
                return self.clamp(prefix, op, self.node("Mul", inputs))
            case "softmax":
                return self.node("Softmax", [x], axis=1)
            case "concat":
                return self.node("Concat", inputs, axis=1 + (op.axis if rank == 3 else min(op.axis, 1)))
            case "function":
                return FUNCTIONS[op.function](self, prefix, x, op.parameter)
            case "normalize":
                return self.clamp(prefix, op, self.affine(prefix, op, self.normalize(prefix, op, x)))
            case "recurrent":
                return self.recurrent(prefix, op, x)
            case "matmul":
                return self.matmul(op, *inputs)
            case "view":
                return self.view(prefix, op, x)
            case "constant":
                return self.constant_value(prefix, op)
        raise AssertionError(op.kind)

    def scaled(self, prefix: str, kind: str, x: str, number: float) -> str:
        """x and a number by an operator of two inputs."""
        return self.node(kind, [x, self.constant(f"{prefix}.{len(self.constants)}", np.float32(number))])

    def reshape(self, prefix: str, x: str, shape: Sequence[int]) -> str:
        """x (B, ...) in another shape (B, *shape)."""
        sizes = self.constant(f"{prefix}.{len(self.constants)}", np.array([-1, *shape], np.int64))
        return self.node("Reshape", [x, sizes])

    def normalize(self, prefix: str, op: Op, x: str) -> str:
        spatial = list(user_shape(op.shape, op.rank)[1:])
        split = self.reshape(prefix, x, [op.groups, op.shape[0] // op.groups, *spatial])
        axes = list(range(2, 3 + len(spatial))) if op.whole else [2]
        if op.center:
            split = self.node("Sub", [split, self.node("ReduceMean", [split], axes=axes, keepdims=1)])
        spread = self.node("ReduceMean", [self.node("Mul", [split, split])], axes=axes, keepdims=1)
        split = self.node("Div", [split, self.node("Sqrt", [self.scaled(prefix, "Add", spread, op.parameter)])])
        return self.reshape(prefix, split, user_shape(op.shape, op.rank))

    def recurrent(self, prefix: str, op: Op, x: str) -> str:
        """ONNX's own layer, whose products with the input are there already: its input weight only sorts the gates."""
        assert op.scale is not None
        assert op.shift is not None
        size, gates = op.shape[0], CELLS[op.function]
        order = np.concatenate([np.arange(g * size, (g + 1) * size) for g in GATES[op.function]])
        if op.bits is None:
            assert op.weight is not None
            weight = op.weight.reshape(-1, size) * op.scale[:, None]
        else:
            weight = signs(op, 0).reshape(-1, size)[order]
        sort = np.eye(gates * size, dtype=np.int8)[order]
        one = self.constant(f"{prefix}.one", np.float32(1))
        inputs = [self.node("Transpose", [x], perm=[2, 0, 1])]
        inputs.append(self.node("DequantizeLinear", [self.constant(f"{prefix}.sort", sort[None]), one]))
        if op.bits is None:
            inputs.append(self.constant(f"{prefix}.weight", weight[order].astype(np.float32)[None]))
        else:
            scaled = [
                self.constant(f"{prefix}.weight", weight[None]),
                self.constant(f"{prefix}.scale", op.scale[order]),
            ]
            inputs.append(self.node("DequantizeLinear", scaled, axis=1))
        bias = np.concatenate([np.zeros(gates * size), op.shift[order]]).astype(np.float32)
        inputs.append(self.constant(f"{prefix}.shift", bias[None]))
        settings: dict[str, Any] = {"hidden_size": size, "direction": "reverse" if op.reverse else "forward"}
        settings |= {"linear_before_reset": 1} if op.function == "gru" else {}
        settings |= {"activations": ["Relu"]} if op.function == "rnn_relu" else {}
        kind = {"gru": "GRU", "lstm": "LSTM"}.get(op.function, "RNN")
        states = self.node(
            "Squeeze", [self.node(kind, inputs, **settings), self.constant(f"{prefix}.axis", np.array([1], np.int64))]
        )
        return self.node("Transpose", [states], perm=[1, 2, 0])

    def matmul(self, op: Op, x: str, y: str) -> str:
        last, back = ([0, 2, 3, 1], [0, 3, 1, 2]) if op.rank == 3 else ([0, 2, 1], [0, 2, 1])
        first = self.node("Transpose", [x], perm=last)
        if not op.transposed:
            y = self.node("Transpose", [y], perm=last)
        elif op.rank == 3:
            y = self.node("Transpose", [y], perm=[0, 2, 1, 3])
        return self.node("Transpose", [self.node("MatMul", [first, y])], perm=back)

    def view(self, prefix: str, op: Op, x: str) -> str:
        """Reshape, Transpose, or where neither will do, Gather."""
        numbers = np.arange(math.prod(op.source)).reshape(op.source)  # in the order of torch
        of_memory = numbers.transpose(1, 2, 0).reshape(-1)
        made = of_memory[view_indices(op)].reshape(channels_last(op.shape)).transpose(2, 0, 1).reshape(-1)
        shape = user_shape(op.shape, op.rank)
        if made.size == numbers.size:
            for order in itertools.permutations(range(3)):
                if np.array_equal(numbers.transpose(order).reshape(-1), made):
                    if order != (0, 1, 2):
                        x = self.reshape(prefix, x, op.source)
                        x = self.node("Transpose", [x], perm=[0, *(1 + i for i in order)])
                    return self.reshape(prefix, x, shape)
        flat = self.reshape(prefix, x, [numbers.size])
        found = self.node("Gather", [flat, self.constant(f"{prefix}.indices", made.astype(np.int64))], axis=1)
        return self.reshape(prefix, found, shape)

    def constant_value(self, prefix: str, op: Op) -> str:
        """The constant, once for each input of the batch."""
        assert op.value is not None
        shape = user_shape(op.shape, op.rank)
        value = self.constant(f"{prefix}.value", op.value.astype(np.float32).reshape(1, *shape))
        first = [self.constant(f"{prefix}.{n}", np.array([n], np.int64)) for n in (0, 1)]
        batch = self.node("Slice", [self.node("Shape", ["x"]), *first])
        sizes = self.constant(f"{prefix}.sizes", np.array(shape, np.int64))
        return self.node("Expand", [value, self.node("Concat", [batch, sizes], axis=0)])

    def activation(self, prefix: str, op: Op, x: str) -> str:
        a = op.activation
        if a is None:
            return x
        if a.kind == "sign":
            return self.sign(prefix, x)
        if not self.qonnx or a.step is None:
            return x
        settings = {"step": a.step, "zero": a.zero, "bits": int(a.kind.removeprefix("int"))}
        values = [self.constant(f"{prefix}.{name}", np.float32(value)) for name, value in settings.items()]
        return self.node("Quant", [x, *values], CUSTOM, signed=1, narrow=1, rounding_mode="ROUND")

    def sign(self, prefix: str, x: str) -> str:
        """±1, with +1 at 0."""
        if self.qonnx:
            return self.node("BipolarQuant", [x, self.constant(f"{prefix}.unit", np.float32(1))], CUSTOM)
        nought, one, minus = (self.constant(f"{prefix}.{v}", np.float32(v)) for v in (0, 1, -1))
        return self.node("Where", [self.node("GreaterOrEqual", [x, nought]), one, minus])

    def product(self, prefix: str, op: Op, x: str) -> str:
        shape = (op.weight_shape[0], op.weight_shape[1], *user_shape((1, *op.kernel), op.rank)[1:])
        if op.rank == 1:
            shape = shape[:2]
        if op.kind == "real":
            assert op.weight is not None
            weight = self.constant(f"{prefix}.weight", op.weight.astype(np.float32).reshape(shape))
        else:
            assert op.activation is not None
            bits = signs(op, 0).reshape(shape)
            smaller = 8 * ((shape[1] + BLOCK - 1) // BLOCK) + 4 < shape[1]
            if op.rank == 1 and not self.stock and op.activation.kind != "int16" and smaller:
                return self.two_bit(prefix, bits, x)
            weight = self.weight(prefix, bits)
        if op.rank == 1:
            return self.node("MatMul", [x, self.node("Transpose", [weight], perm=[1, 0])])
        return self.node(
            "Conv", [x, weight], dilations=_sizes(op.dilation, op.rank), group=op.groups, **_window(op, op.rank)
        )

    def weight(self, prefix: str, bits: NDArray[np.int8]) -> str:
        if self.qonnx:
            values = self.constant(f"{prefix}.weight", bits.astype(np.float32))
            return self.node(
                "BipolarQuant", [values, self.constant(f"{prefix}.scale_of_weight", np.float32(1))], CUSTOM
            )
        values = self.constant(f"{prefix}.weight", bits)
        return self.node("DequantizeLinear", [values, self.constant(f"{prefix}.scale_of_weight", np.float32(1))])

    def two_bit(self, prefix: str, bits: NDArray[np.int8], x: str) -> str:
        outputs, inputs = bits.shape
        blocks = (inputs + BLOCK - 1) // BLOCK
        codes = np.full((outputs, blocks * BLOCK), 2, np.uint8)
        codes[:, :inputs] = 2 + bits
        codes = codes.reshape(outputs, blocks, BLOCK // 4, 4)
        packed = (codes << np.array([0, 2, 4, 6], np.uint8)).sum(-1).astype(np.uint8)
        constants = [
            self.constant(f"{prefix}.weight", packed),
            self.constant(f"{prefix}.scales", np.ones(outputs * blocks, np.float32)),
        ]
        # level 4 rounds activations to 8 bits; with float ones onnxruntime 1.32 takes 270 times as long for 1024²
        settings = {"K": inputs, "N": outputs, "bits": 2, "block_size": BLOCK, "accuracy_level": 4}
        return self.node("MatMulNBits", [x, *constants], "com.microsoft", **settings)

    def affine(self, prefix: str, op: Op, x: str) -> str:
        assert op.scale is not None
        assert op.shift is not None
        spread = (1, -1) + (1,) * (op.rank - 1)
        scale = self.constant(f"{prefix}.scale", op.scale.astype(np.float32).reshape(spread))
        shift = self.constant(f"{prefix}.shift", op.shift.astype(np.float32).reshape(spread))
        return self.node("Add", [self.node("Mul", [x, scale]), shift])

    def clamp(self, prefix: str, op: Op, x: str) -> str:
        if (op.low, op.high) == (-math.inf, math.inf):
            return x if op.kind != "clamp" else self.node("Identity", [x])
        if (op.low, op.high) == (0, math.inf):
            return self.node("Relu", [x])
        limits = [self.constant(f"{prefix}.{n}", np.float32(v)) for n, v in (("low", op.low), ("high", op.high))]
        return self.node("Clip", [x, *limits])


def _gelu(graph: _Graph, prefix: str, x: str, _: float) -> str:
    erf = graph.node("Erf", [graph.scaled(prefix, "Mul", x, 1 / math.sqrt(2))])
    return graph.node("Mul", [graph.scaled(prefix, "Mul", x, 0.5), graph.scaled(prefix, "Add", erf, 1.0)])


def _gelu_tanh(graph: _Graph, prefix: str, x: str, _: float) -> str:
    cube = graph.scaled(prefix, "Mul", graph.node("Mul", [x, graph.node("Mul", [x, x])]), 0.044715)
    inner = graph.scaled(prefix, "Mul", graph.node("Add", [x, cube]), math.sqrt(2 / math.pi))
    tanh = graph.scaled(prefix, "Add", graph.node("Tanh", [inner]), 1.0)
    return graph.node("Mul", [graph.scaled(prefix, "Mul", x, 0.5), tanh])


# ONNX's order of the gates, by torch's
GATES = {"gru": (1, 0, 2), "lstm": (0, 3, 1, 2), "rnn_tanh": (0,), "rnn_relu": (0,)}
FUNCTIONS: dict[str, Callable[[_Graph, str, str, float], str]] = {
    "sigmoid": lambda g, p, x, _: g.node("Sigmoid", [x]),
    "tanh": lambda g, p, x, _: g.node("Tanh", [x]),
    "silu": lambda g, p, x, _: g.node("Mul", [x, g.node("Sigmoid", [x])]),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "mish": lambda g, p, x, _: g.node("Mul", [x, g.node("Tanh", [g.node("Softplus", [x])])]),
    "elu": lambda g, p, x, alpha: g.node("Elu", [x], alpha=alpha),
    "leaky_relu": lambda g, p, x, slope: g.node("LeakyRelu", [x], alpha=slope),
    "hardsigmoid": lambda g, p, x, _: g.node("HardSigmoid", [x], alpha=1 / 6, beta=0.5),
    "hardswish": lambda g, p, x, _: g.node("HardSwish", [x]),
}


def _sizes(pair: tuple[int, int], rank: int) -> list[int]:
    return list(pair)[3 - rank :]


def _window(op: Op, rank: int) -> dict[str, Any]:
    padding = _sizes(op.padding, rank)
    return {"kernel_shape": _sizes(op.kernel, rank), "strides": _sizes(op.stride, rank), "pads": padding + padding}
