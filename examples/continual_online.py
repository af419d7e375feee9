"""Online, without task boundaries, paying for few labels: one pass, small batches, ask where the network is unsure.

Images arrive ten at a time and drift from one permutation of the pixels to the next; nobody says when.  A uniform prior
lets what is older than the window fade.  Half of the labels are asked for: those whose prediction is least certain, or
as many at random.

python examples/continual_online.py
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import bayesbinn as bb
from bayesbinn import continual

digits = load_digits()
x, y = torch.tensor(digits.images).float()[:, None] / 16, torch.tensor(digits.target)
train, test = continual.Examples(x[:1437], y[:1437]), continual.Examples(x[1437:], y[1437:])
stream = continual.permuted(train, test, num_tasks=3, seed=0)
BATCH, ASK, WINDOW = 10, 5, 2000


def run(active: bool) -> list[float]:
    """Accuracy on each task just after its part of the stream."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(64, 200, bias=False), nn.BatchNorm1d(200, affine=False), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(200, 10, bias=False), nn.BatchNorm1d(10, affine=False))
    net = bb.binarize_(continual.normalize_(net, "none", num_tasks=3), init="zeros")
    # lr is the share of the past that a step lets go: the labels of a step over the window
    optimizer = bb.optimizer_for(net, num_data=WINDOW, form="plain", lr=ASK / WINDOW, momentum=0.0, kl_weight=0.02)
    accuracies = []
    for t in range(len(stream)):
        task, following = stream[t], stream[t + 1] if t + 1 < len(stream) else None
        batches = torch.randperm(1437, generator=generator).split(BATCH)
        for i, chosen in enumerate(batches):
            xb, yb = continual.draw_batch(task, following, chosen, i / len(batches), 0.2, generator)
            unsure = bb.predict(net, xb, num_samples=8, seed=i).entropy if active else torch.rand(len(xb))
            ask = unsure.topk(min(ASK, len(xb))).indices
            for _ in range(2):  # a label is worth two steps
                F.cross_entropy(net(xb[ask]), yb[ask]).backward()
                optimizer.step()
                optimizer.zero_grad()
        accuracies.append(bb.metrics.accuracy(bb.predict(net, task.test.x).probs, task.test.y))
    return accuracies


for name, active in (("at random", False), ("where unsure", True)):
    print(f"labels {name}: " + ", ".join(f"accuracy {a:.1%}" for a in run(active)) + " on tasks 1 to 3")
