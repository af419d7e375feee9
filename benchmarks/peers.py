"""The rivals of `inference.py`: each function builds one layer and returns a call without arguments that runs it once.

A rival that is not installed, or cannot do the layer, raises ImportError or UnavailableError.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Run = Callable[[], Any]
Floats = NDArray[np.float32]


class UnavailableError(Exception):
    """This rival cannot run this layer here."""


def _session(model: Any, threads: int, options: dict[str, str] | None = None) -> Any:
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    for key, value in (options or {}).items():
        settings.add_session_config_entry(key, value)
    raw = model if isinstance(model, bytes) else model.SerializeToString()
    return ort.InferenceSession(raw, settings, providers=["CPUExecutionProvider"])


def _model(nodes: list[Any], constants: dict[str, NDArray[Any]], x: Floats, output: list[int]) -> Any:
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def ort_session(raw: bytes, x: Floats, threads: int) -> Run:
    """A whole network given as ONNX bytes."""
    session = _session(raw, threads)
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: x})


def ort_linear(x: Floats, weight: Floats, threads: int) -> Run:
    """onnxruntime, float32 MatMul."""
    from onnx import helper

    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    session = _session(_model(nodes, {"w": weight.T.copy()}, x, [len(x), len(weight)]), threads)
    return lambda: session.run(None, {"x": x})


def ort_bits(bits: int, lut: bool = False, block: int = 128) -> Callable[[Floats, Floats, int], Run]:
    """onnxruntime, MatMulNBits with 2 or 4 bits and accuracy_level 4 (int8 activations): ±1 exactly."""

    def build(x: Floats, weight: Floats, threads: int) -> Run:
        from onnx import helper

        outputs, inputs = weight.shape
        codes = ((1 << (bits - 1)) + weight).astype(np.uint8).reshape(outputs, inputs // block, -1, 8 // bits)
        packed = sum(codes[..., i] << (bits * i) for i in range(8 // bits)).astype(np.uint8)
        scales = np.ones(outputs * inputs // block, np.float32)
        settings = {"K": inputs, "N": outputs, "bits": bits, "block_size": block, "accuracy_level": 4}
        node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", **settings)
        model = _model([node], {"w": packed, "s": scales}, x, [len(x), outputs])
        session = _session(model, threads, {"mlas.use_lut_gemm": "1"} if lut else None)
        found = session.run(None, {"x": x})[0]
        if not np.allclose(found, x @ weight.T, rtol=0.05, atol=0.05 * np.sqrt(inputs)):
            raise UnavailableError("its result is wrong")
        return lambda: session.run(None, {"x": x})

    return build


def ort_conv(x: Floats, weight: Floats, threads: int) -> Run:
    """onnxruntime, float32 Conv."""
    from onnx import helper

    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], kernel_shape=[3, 3])]
    model = _model(nodes, {"w": weight}, x, [len(x), len(weight), *x.shape[2:]])
    session = _session(model, threads)
    return lambda: session.run(None, {"x": x})


def torch_linear(x: Floats, weight: Floats, threads: int) -> Run:
    """torch, float32."""
    import torch

    a, b = torch.from_numpy(x), torch.from_numpy(weight)
    return _torch(lambda: torch.nn.functional.linear(a, b), threads)


def torch_conv(x: Floats, weight: Floats, threads: int) -> Run:
    import torch

    a, b = torch.from_numpy(x), torch.from_numpy(weight)
    return _torch(lambda: torch.nn.functional.conv2d(a, b, padding=1), threads)


def torch_network(net: Any, x: Floats, threads: int) -> Run:
    import torch

    a = torch.from_numpy(x)
    return _torch(lambda: net(a), threads)


def _torch(call: Run, threads: int) -> Run:
    import torch

    def run() -> Any:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            return call()

    return run


def _openvino(output: Any, parameter: Any, x: Floats, threads: int) -> Run:
    import openvino as ov

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = ov.Core().compile_model(ov.Model([output], [parameter]), "CPU", settings)
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(x, shared_memory=True))
    return request.infer


def openvino_linear(x: Floats, weight: Floats, threads: int) -> Run:
    """openvino, float32 MatMul."""
    from openvino import opset13 as ops

    parameter = ops.parameter(x.shape, np.float32)
    return _openvino(ops.matmul(parameter, ops.constant(weight), False, True), parameter, x, threads)


def openvino_conv(x: Floats, weight: Floats, threads: int) -> Run:
    """openvino, float32 Convolution."""
    from openvino import opset13 as ops

    parameter = ops.parameter(x.shape, np.float32)
    output = ops.convolution(parameter, ops.constant(weight), [1, 1], [1, 1], [1, 1], [1, 1])
    return _openvino(output, parameter, x, threads)


def openvino_binary_conv(x: Floats, weight: Floats, threads: int) -> Run:
    """openvino, BinaryConvolution with u1 weights on two-level activations."""
    import openvino as ov
    from openvino import opset13 as ops

    parameter = ops.parameter(x.shape, np.float32)
    limits = [np.full((1, 1, 1, 1), n, np.float32) for n in (0.0, 0.0, -1.0, 1.0)]
    two = ops.fake_quantize(parameter, *(ops.constant(n) for n in limits), 2)
    bits = np.packbits((weight > 0).reshape(-1))
    filters = ops.constant(ov.Tensor(bits, ov.Shape(weight.shape), ov.Type.u1))
    output = ops.binary_convolution(two, filters, [1, 1], [1, 1], [1, 1], [1, 1], "xnor-popcount", 0.0)
    return _openvino(output, parameter, x, threads)


class _Params(ctypes.Structure):
    _fields_ = (("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


def ggml_linear(x: Floats, weight: Floats, threads: int) -> Run:
    """ggml Q1_0 (128 weights a block, fp16 scale), from the xllamacpp wheel."""
    import importlib.util

    spec = importlib.util.find_spec("xllamacpp")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("xllamacpp")
    from pathlib import Path

    lib = ctypes.CDLL(str(next(Path(spec.submodule_search_locations[0]).glob("xllamacpp*.so"))))
    p, i64, i32 = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    signatures: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "ggml_init": (p, (_Params,)),
        "ggml_new_tensor_2d": (p, (p, i32, i64, i64)),
        "ggml_mul_mat": (p, (p, p, p)),
        "ggml_new_graph": (p, (p,)),
        "ggml_build_forward_expand": (None, (p, p)),
        "ggml_backend_cpu_init": (p, ()),
        "ggml_backend_cpu_set_n_threads": (None, (p, i32)),
        "ggml_backend_cpu_buffer_type": (p, ()),
        "ggml_backend_alloc_ctx_tensors_from_buft": (p, (p, p)),
        "ggml_backend_tensor_set": (None, (p, p, ctypes.c_size_t, ctypes.c_size_t)),
        "ggml_backend_tensor_get": (None, (p, p, ctypes.c_size_t, ctypes.c_size_t)),
        "ggml_backend_graph_compute": (i32, (p, p)),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    outputs, inputs = weight.shape
    weights_context, context = (lib.ggml_init(_Params(1 << 24, None, True)) for _ in range(2))
    w = lib.ggml_new_tensor_2d(weights_context, 41, inputs, outputs)
    a = lib.ggml_new_tensor_2d(context, 0, inputs, len(x))
    y = lib.ggml_mul_mat(context, w, a)
    graph = lib.ggml_new_graph(context)
    lib.ggml_build_forward_expand(graph, y)
    backend = lib.ggml_backend_cpu_init()
    lib.ggml_backend_cpu_set_n_threads(backend, threads)
    for owner in (weights_context, context):
        lib.ggml_backend_alloc_ctx_tensors_from_buft(owner, lib.ggml_backend_cpu_buffer_type())
    blocks = np.zeros((outputs, inputs // 128), np.dtype([("d", np.float16), ("bits", np.uint8, 16)]))
    blocks["d"] = 1
    blocks["bits"] = np.packbits((weight > 0).reshape(outputs, -1, 128), axis=-1, bitorder="little")
    lib.ggml_backend_tensor_set(w, blocks.ctypes.data, 0, blocks.nbytes)
    lib.ggml_backend_tensor_set(a, x.ctypes.data, 0, x.nbytes)
    out = np.empty((len(x), outputs), np.float32)

    def run() -> Floats:
        lib.ggml_backend_graph_compute(backend, graph)
        return out

    run()
    lib.ggml_backend_tensor_get(y, out.ctypes.data, 0, out.nbytes)
    if not np.allclose(out, x @ weight.T, rtol=0.05, atol=0.05 * np.sqrt(inputs)):
        raise UnavailableError("its result is wrong")
    return run
