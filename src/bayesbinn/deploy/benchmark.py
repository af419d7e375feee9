"""How fast a packed network is here, beside the same network in torch, and in onnxruntime and openvino if installed."""

import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..runtime import Network
from ..runtime.program import Program
from . import twin
from .export_onnx import to_onnx

Call = Callable[[], Any]


def bench(
    program: Program,
    *,
    batch_sizes: tuple[int, ...] = (1, 64),
    threads: int = 1,
    rounds: int = 15,
    seconds: float = 0.05,
) -> list[dict[str, Any]]:
    """Median latency of the packed network and of its rivals, which take turns in shuffled order.

    Args:
        program: from `load_program`.
        batch_sizes: inputs in one call.
        threads: for every engine.
        rounds: turns of each engine.
        seconds: of one turn, about.

    Returns:
        One entry for each engine and batch size: engine, batch, microseconds (of one call) and inputs_per_second.
    """
    results, before = [], torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for batch in batch_sizes:
            results += _of_batch(program, batch, threads, rounds, seconds)
    finally:
        torch.set_num_threads(before)
    return results


def _of_batch(program: Program, batch: int, threads: int, rounds: int, seconds: float) -> list[dict[str, Any]]:
    x = np.random.default_rng(0).normal(size=(batch, *program.input_shape)).astype(np.float32)
    times = _medians(_engines(program, x, threads), rounds, seconds)
    return [
        {"engine": engine, "batch": batch, "microseconds": 1e6 * each, "inputs_per_second": batch / each}
        for engine, each in times.items()
    ]


def _engines(program: Program, x: NDArray[np.float32], threads: int) -> dict[str, Call]:
    network = Network(program, threads)
    calls: dict[str, Call] = {f"bayesbinn ({network.engine})": lambda: network.run(x)}
    if program.num_samples:
        calls[f"bayesbinn ({network.engine}), {program.num_samples} samples"] = lambda: network.run_samples(x)
    mode = program.of(0)
    given, weights = torch.from_numpy(x), twin.weights(mode)

    @torch.inference_mode()
    def in_torch() -> torch.Tensor:
        return twin.forward(mode, given, weights)

    calls["torch float32"] = in_torch
    for name, build in (("onnxruntime", _onnxruntime), ("openvino", _openvino)):
        try:
            calls[f"{name}, the ONNX export"] = build(program, x, threads)
        except ImportError:
            continue
    return calls


def _onnxruntime(program: Program, x: NDArray[np.float32], threads: int) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(to_onnx(program), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})


def _openvino(program: Program, x: NDArray[np.float32], threads: int) -> Call:
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(core.read_model(to_onnx(program, stock=True)), "CPU", settings).create_infer_request()
    return lambda: request.infer({"x": x})


def _medians(calls: dict[str, Call], rounds: int, seconds: float) -> dict[str, float]:
    order, repeats = random.Random(0), {}
    for name, call in calls.items():
        call()
        start = time.perf_counter()
        call()
        repeats[name] = max(1, round(seconds / (time.perf_counter() - start)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name in order.sample(list(calls), len(calls)):
            start = time.perf_counter()
            for _ in range(repeats[name]):
                calls[name]()
            times[name].append((time.perf_counter() - start) / repeats[name])
    return {name: statistics.median(values) for name, values in times.items()}
