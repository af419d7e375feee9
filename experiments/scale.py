"""How binary layers are scaled, on networks that nobody made for binary weights, with the defaults of the library.

    python experiments/scale.py --net mlp --scale learned --schedule cosine --epochs 5 --seed 0

One line of JSON per run.  Data: $BAYESBINN_DATA/mnist.npz (`mlp`), cifar10.npz (the others, 10,000 images).
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bayesbinn as bb

DIM = 64


def mlp(width: int = 256) -> nn.Module:
    """Linear-ReLU × 3 without any normalization."""
    hidden = [nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, 10))


class Attention(nn.Module):
    """Self-attention of separate projections, before it a layer norm, around it a residual."""

    def __init__(self, heads: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(DIM)
        self.qkv, self.out, self.heads = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM), heads

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(self.norm(x)).chunk(3, -1))
        return x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Residual(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class ViT(nn.Module):
    """Patches of 8×8, four blocks of attention and a two-layer GELU network, mean over the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.position = nn.Conv2d(3, DIM, 8, 8), nn.Parameter(0.02 * torch.randn(1, 16, DIM))
        mixed = ((Attention(), _feedforward()) for _ in range(4))
        self.blocks = nn.Sequential(*(m for pair in mixed for m in pair))
        self.norm, self.head = nn.LayerNorm(DIM), nn.Linear(DIM, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.blocks(x)).mean(1))


def _feedforward() -> nn.Module:
    return Residual(nn.LayerNorm(DIM), nn.Linear(DIM, 4 * DIM), nn.GELU(), nn.Linear(4 * DIM, DIM))


def resnet() -> nn.Module:
    """Pre-activation residual blocks with batch norm and SiLU."""

    def block(c: int) -> nn.Module:
        first = [nn.BatchNorm2d(c), nn.SiLU(), nn.Conv2d(c, c, 3, padding=1)]
        return Residual(*first, nn.BatchNorm2d(c), nn.SiLU(), nn.Conv2d(c, c, 3, padding=1))

    layers: list[nn.Module] = [nn.Conv2d(3, 16, 4, 4)]
    for c in (16, 32):
        layers += [block(c), block(c), nn.Conv2d(c, 2 * c, 3, 2, padding=1)]
    return nn.Sequential(
        *layers, nn.BatchNorm2d(64), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    )


class ChannelNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    """Blocks of a depthwise 7×7, a layer norm and two 1×1 with GELU, after Liu et al. (2022)."""

    def block(c: int) -> nn.Module:
        depthwise = nn.Conv2d(c, c, 7, padding=3, groups=c)
        return Residual(depthwise, ChannelNorm(c), nn.Conv2d(c, 4 * c, 1), nn.GELU(), nn.Conv2d(4 * c, c, 1))

    layers: list[nn.Module] = [nn.Conv2d(3, 32, 4, 4), ChannelNorm(32), block(32), block(32)]
    layers += [ChannelNorm(32), nn.Conv2d(32, 64, 2, 2), block(64), block(64)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(64), nn.Linear(64, 10))


NETS = {"mlp": mlp, "vit": ViT, "resnet": resnet, "convnext": convnext}


def data(net: str, num_train: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    arrays = np.load(Path(os.environ["BAYESBINN_DATA"]) / ("mnist.npz" if net == "mlp" else "cifar10.npz"))
    x, y, x_test, y_test = (torch.from_numpy(arrays[n]) for n in ("x_train", "y_train", "x_test", "y_test"))
    if net != "mlp":
        x, y, x_test, y_test = x[:num_train], y[:num_train], x_test[:2000], y_test[:2000]
    mean, std = (0.1307, 0.3081) if net == "mlp" else (0.47, 0.25)
    x, x_test = (t.float().div(255).sub(mean).div(std) for t in (x, x_test))
    if x.shape[-1] == 3:
        x, x_test = (t.permute(0, 3, 1, 2).contiguous() for t in (x, x_test))
    return x, y.flatten().long(), x_test, y_test.flatten().long()


def run(args: argparse.Namespace) -> dict[str, object]:
    torch.manual_seed(args.seed)
    x, y, x_test, y_test = data(args.net, args.num_train)
    net = NETS[args.net](**({"width": args.width} if args.net == "mlp" else {}))
    if args.scale == "float":
        optimizer: torch.optim.Optimizer = torch.optim.Adam(net.parameters(), args.float_lr)
    else:
        bb.binarize_(net, scale=args.scale, exclude=args.exclude, magnitude=args.magnitude)
        optimizer = bb.optimizer_for(net, num_data=len(x), **json.loads(args.options))
    steps = args.epochs * math.ceil(len(x) / args.batch_size)
    scheduler = (
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        if args.schedule == "cosine"
        else torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0, 0)
    )
    started, losses, accuracies = time.perf_counter(), [], []
    for _ in range(args.epochs):
        net.train()
        total = 0.0
        for batch in torch.randperm(len(x)).split(args.batch_size):
            loss = F.cross_entropy(net(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
            total += float(loss.detach()) * len(batch)
        losses.append(round(total / len(x), 4))
        if args.scale != "float":
            bb.calibrate_(net, x[:2000])
        net.eval()
        accuracies.append(round(100 * float((bb.predict(net, x_test, 0).labels == y_test).float().mean()), 2))
    settings = {n: v for n, v in vars(args).items() if n != "output"}
    return settings | {"train_loss": losses, "mode": accuracies, "seconds": round(time.perf_counter() - started, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=NETS, default="mlp")
    parser.add_argument("--scale", choices=("float", "none", "fan_in", "learned"), default="learned")
    parser.add_argument("--schedule", choices=("constant", "cosine"), default="constant")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--num-train", type=int, default=10_000, help="CIFAR-10 images")
    parser.add_argument("--width", type=int, default=256, help="of mlp")
    parser.add_argument("--float-lr", type=float, default=1e-3)
    parser.add_argument("--options", default="{}", help="JSON, for optimizer_for")
    parser.add_argument("--magnitude", type=float, default=1.0)
    parser.add_argument("--exclude", nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(json.dumps(run(args)), flush=True)


if __name__ == "__main__":
    main()
