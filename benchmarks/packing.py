"""How sharp the check of every pack is, and what it costs: docs/design/packing-is-checked.md.

python benchmarks/packing.py --output benchmarks/results/packing.json
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

import bayesbinn as bb
from bayesbinn.deploy import UnsupportedError, verify
from bayesbinn.environment import environment
from bayesbinn.training.models import ModelConfig, build_model

FACTORS = [1 + 10.0**-k for k in range(1, 8)]


NETWORKS = {
    "mlp 784-2048×3-10": ({"model": "mlp", "width": 2048}, (1, 28, 28)),
    "vgg-small, quarter width": ({"model": "vgg-small", "width_multiplier": 0.25}, (3, 32, 32)),
    "resnet18, quarter width": ({"model": "resnet18", "width_multiplier": 0.25}, (3, 32, 32)),
}


def networks() -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Networks with the batch-norm statistics of random images, and such images."""
    for name, (config, shape) in NETWORKS.items():
        torch.manual_seed(0)
        net = bb.binarize_(build_model(ModelConfig(**config), shape, 10))
        x = torch.randint(256, (16, *shape)).float()
        with torch.no_grad():
            for _ in range(20):
                net(x)
        yield name, net.eval(), x


def measure(net: nn.Module, x: Tensor, activations: Any) -> dict[str, Any]:
    """Largest share of the allowed difference that a sound network takes, and seconds with and without the check."""
    shares = {"float rounding": 0.0, "quantisation": 0.0}
    compare = verify._compare

    def watched(found: Tensor, value: Any, what: str, which: str) -> Any:
        error = (found.detach().cpu().double().reshape(value.exact.shape) - value.exact).abs()
        kind = "quantisation" if "quantised" in what else "float rounding"
        shares[kind] = max(shares[kind], float((error / value.error.clamp(min=1e-300)).max()) if error.any() else 0.0)
        return compare(found, value, what, which)

    with patch("bayesbinn.deploy.verify._compare", watched):
        bb.deploy.pack(net, calibration=x, activations=activations)
    seconds = _seconds(lambda: bb.deploy.pack(net, calibration=x, activations=activations))
    with patch("bayesbinn.deploy.file.verify", lambda *args: None):
        unchecked = _seconds(lambda: bb.deploy.pack(net, calibration=x, activations=activations))
    return {"largest share of what is allowed": shares, "seconds": seconds, "seconds without the check": unchecked}


def smallest_factor(net: nn.Module, x: Tensor) -> float:
    """The smallest factor of FACTORS that is refused, where a hook puts it on the layer of the largest fan-in."""
    found, layers = float("inf"), [layer for _, layer in bb.nn.binary_layers(net)]
    layer = max(layers, key=lambda layer: layer.natural[0].numel())
    for factor in FACTORS:
        hook = layer.register_forward_hook(lambda module, inputs, output, factor=factor: output * factor)
        try:
            bb.deploy.pack(net, calibration=x)
            break
        except UnsupportedError:
            found = factor - 1
        finally:
            hook.remove()
    return found


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "environment": environment(),
        "networks": {},
    }
    for name, net, x in networks():
        entry = {activations: measure(net, x, activations) for activations in ("int8", "int16")}
        result["networks"][name] = entry | {"a hook's factor is found from 1 +": smallest_factor(net, x)}
        print(name, json.dumps(result["networks"][name], indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
