"""An installed wheel, where only numpy is beside it: python tests/wheel/check.py native|numpy

Runs the packed network of this folder and compares what it says bit for bit.  `native` asks for the compiled library,
`numpy` for a wheel without one.  Nothing of the tests is imported, so that it runs where the wheel is and nothing else.
`python tests/wheel/check.py write`, in a checkout with torch, makes the two files anew.
"""

import sys
import warnings
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent
NETWORK, RESULTS = FOLDER / "tiny.bbnn", FOLDER / "tiny.npz"


def check(engine: str) -> str:
    """What the wheel is, in a line.

    Raises:
        AssertionError: if a result differs, or another engine than `engine` computes it.
    """
    warnings.filterwarnings("ignore", message=".*no compiled library.*")
    import bayesbinn
    from bayesbinn import runtime

    place = Path(bayesbinn.__file__).parent
    assert FOLDER.parents[1] not in place.parents or "site-packages" in place.parts, f"{place} is the checkout"
    assert (place / "py.typed").is_file()
    network = runtime.load(NETWORK)
    assert (network.engine == "numpy") == (engine == "numpy"), network.engine
    with np.load(RESULTS) as wanted:
        x = wanted["x"]
        for name, found in results(network, x).items():
            assert np.array_equal(found, wanted[name]), name
    assert "torch" not in sys.modules
    python = ".".join(map(str, sys.version_info[:3]))
    versions = f"bayesbinn {bayesbinn.__version__}, Python {python}, numpy {np.__version__}"
    return f"{versions}, engine {network.engine}: the results are as they should be"


def results(network, x: np.ndarray) -> dict[str, np.ndarray]:
    return {"mode": network.run(x), "samples": network.run_samples(x), "probs": network.predict(x)}


def write() -> str:
    import torch
    from torch import nn

    import bayesbinn as bb

    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 10)]
    net = bb.binarize_(nn.Sequential(*layers), quiet=True)
    x = torch.randn(64, 1, 8, 8)
    bb.calibrate_(net, x)
    net.eval()
    NETWORK.write_bytes(bb.deploy.pack(net, num_samples=4, input_shape=(1, 8, 8)))
    network, inputs = bb.runtime.load(NETWORK), x[:5].numpy()
    np.savez_compressed(RESULTS, x=inputs, **results(network, inputs))
    return f"wrote {NETWORK} and {RESULTS}"


if __name__ == "__main__":
    if sys.argv[1:] not in (["native"], ["numpy"], ["write"]):
        sys.exit(__doc__)
    print(write() if sys.argv[1] == "write" else check(sys.argv[1]))
