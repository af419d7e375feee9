"""The int8 rivals of `int8.py`: the same layer or network in int8, as each engine wants it.  See `peers.py`."""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers import Floats, Run, UnavailableError, _model, _session, _torch

STEP = 8 / 255  # of the input, which is normally distributed
Constants = dict[str, NDArray[Any]]


def ort_dynamic_linear(x: Floats, weight: Floats, threads: int) -> Run:
    """onnxruntime, the range of each input measured: DynamicQuantizeLinear, MatMulInteger."""
    from onnx import helper

    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "step", "zero"]),
        helper.make_node("MatMulInteger", ["q", "w", "zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["floats"], to=1),
        helper.make_node("Mul", ["floats", "step"], ["y"]),
    ]
    model = _model(nodes, {"w": weight.T.astype(np.int8).copy()}, x, [len(x), len(weight)])
    session = _session(model, threads)
    return _checked(lambda: session.run(None, {"x": x})[0], x @ weight.T)


def _static(node: str, x: Floats, weight: NDArray[np.int8], channels: int, output: list[int], **settings: Any) -> Any:
    """x quantised with a fixed step, weights per channel, dequantised output: what quantisers of ONNX models write."""
    from onnx import helper

    axis = 1 if node == "MatMul" else 0
    constants: Constants = {
        "w": weight,
        "w_step": np.ones(channels, np.float32),
        "w_zero": np.zeros(channels, np.int8),
        "step": np.float32(STEP),
        "zero": np.uint8(128),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["a"]),
        helper.make_node("DequantizeLinear", ["w", "w_step", "w_zero"], ["b"], axis=axis),
        helper.make_node(node, ["a", "b"], ["y"], **settings),
    ]
    return _model(nodes, {name: np.asarray(value) for name, value in constants.items()}, x, output)


def ort_static_linear(x: Floats, weight: Floats, threads: int) -> Run:
    """onnxruntime, a fixed step: QDQ MatMul per channel."""
    session = _session(_linear_model(x, weight), threads)
    return _checked(lambda: session.run(None, {"x": x})[0], x @ weight.T)


def _linear_model(x: Floats, weight: Floats) -> Any:
    return _static("MatMul", x, weight.T.astype(np.int8).copy(), len(weight), [len(x), len(weight)])


def ort_qlinear_conv(x: Floats, weight: Floats, threads: int) -> Run:
    """onnxruntime, QLinearConv per channel between QuantizeLinear and DequantizeLinear."""
    from onnx import helper

    channels = len(weight)
    constants: Constants = {
        "w": weight.astype(np.int8),
        "w_step": np.ones(channels, np.float32),
        "w_zero": np.zeros(channels, np.int8),
        "step": np.asarray(np.float32(STEP)),
        "zero": np.asarray(np.uint8(128)),
        "out_step": np.asarray(np.float32(14 * np.sqrt(weight[0].size) / 255)),
    }
    conv = ["q", "step", "zero", "w", "w_step", "w_zero", "out_step", "zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"]),
        helper.make_node("QLinearConv", conv, ["sums"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        helper.make_node("DequantizeLinear", ["sums", "out_step", "zero"], ["y"]),
    ]
    session = _session(_model(nodes, constants, x, [len(x), channels, *x.shape[2:]]), threads)
    return _checked(lambda: session.run(None, {"x": x})[0], _conv(x, weight))


def openvino_linear(x: Floats, weight: Floats, threads: int) -> Run:
    """openvino, the QDQ model of `ort_static_linear`."""
    return _checked(_openvino(_linear_model(x, weight).SerializeToString(), x, threads), x @ weight.T)


def openvino_conv(x: Floats, weight: Floats, threads: int) -> Run:
    """openvino, a QDQ convolution."""
    output = [len(x), len(weight), *x.shape[2:]]
    model = _static("Conv", x, weight.astype(np.int8), len(weight), output, pads=[1, 1, 1, 1], kernel_shape=[3, 3])
    return _checked(_openvino(model.SerializeToString(), x, threads), _conv(x, weight))


def _openvino(raw: bytes, x: Floats, threads: int) -> Run:
    import openvino as ov

    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    core = ov.Core()
    model = core.read_model(raw)
    model.reshape(list(x.shape))
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(ov.Tensor(x, shared_memory=True))

    def run() -> Any:
        request.infer()
        return request.get_output_tensor().data

    return run


def torch_linear(x: Floats, weight: Floats, threads: int) -> Run:
    """torch, its dynamically quantised Linear."""
    import torch

    net = torch.nn.Sequential(torch.nn.Linear(weight.shape[1], len(weight), bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.from_numpy(weight))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = torch.ao.quantization.quantize_dynamic(net, {torch.nn.Linear}, dtype=torch.qint8)
    a = torch.from_numpy(x)
    return _checked(_torch(lambda: net(a).numpy(), threads), x @ weight.T)


def torch_conv(x: Floats, weight: Floats, threads: int) -> Run:
    """torch, its quantised Conv2d per channel, with the input quantised and the output dequantised."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        channels = len(weight)
        conv = torch.ao.nn.quantized.Conv2d(weight.shape[1], channels, 3, padding=1, bias=False)
        steps, zeros = torch.full((channels,), 1.0 / 127, dtype=torch.double), torch.zeros(channels, dtype=torch.long)
        quantised = torch.quantize_per_channel(torch.from_numpy(weight), steps, zeros, 0, torch.qint8)
        conv.set_weight_bias(quantised, None)
        conv.scale, conv.zero_point = float(14 * np.sqrt(weight[0].size) / 255), 128
    a = torch.from_numpy(x).contiguous(memory_format=torch.channels_last)

    def call() -> Any:
        return conv(torch.quantize_per_tensor(a, STEP, 128, torch.quint8)).dequantize().numpy()

    return _checked(_torch(call, threads), _conv(x, weight))


def quantised_network(float_onnx: bytes, x: Floats) -> bytes:
    """A float ONNX model in int8 by onnxruntime's own quantiser: QDQ, per channel, calibrated on x."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [{"x": x}]

        def get_next(self) -> Any:
            return self.left.pop() if self.left else None

    with tempfile.TemporaryDirectory() as folder:
        source, ready, made = (str(Path(folder) / name) for name in ("float.onnx", "ready.onnx", "int8.onnx"))
        Path(source).write_bytes(float_onnx)
        quant_pre_process(source, ready, skip_symbolic_shape=True)
        quantize_static(ready, made, Reader(), quant_format=QuantFormat.QDQ, per_channel=True)
        return Path(made).read_bytes()


def ort_network(raw: bytes, x: Floats, threads: int) -> Run:
    session = _session(raw, threads)
    return lambda: session.run(None, {"x": x})


def openvino_network(raw: bytes, x: Floats, threads: int) -> Run:
    return _openvino(raw, x, threads)


def _conv(x: Floats, weight: Floats) -> Floats:
    import torch

    found: Floats = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(weight), padding=1).numpy()
    return found


def _checked(run: Run, expected: Floats) -> Run:
    """A rival whose result is wrong is none."""
    if not np.abs(run() - expected).max() < 0.1 * np.abs(expected).max():
        raise UnavailableError("its result is wrong")
    return run
