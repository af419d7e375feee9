"""From task to task in a loop of your own: the posterior of each task becomes the prior of the next, in one line.

python examples/continual_tasks.py
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import bayesbinn as bb
from bayesbinn import continual

torch.manual_seed(0)
digits = load_digits()
x, y = torch.tensor(digits.images).float()[:, None] / 16, torch.tensor(digits.target)
train, test = continual.Examples(x[:1437], y[:1437]), continual.Examples(x[1437:], y[1437:])
stream = continual.permuted(train, test, num_tasks=3, seed=0)


def network() -> nn.Sequential:
    net = nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(64, 200, bias=False), nn.BatchNorm1d(200, affine=False), nn.ReLU()),
        *(nn.Linear(200, 10, bias=False), nn.BatchNorm1d(10, affine=False)),
    )
    # no statistics to outdate: all that the network knows is λ
    return bb.binarize_(continual.normalize_(net, "none", num_tasks=len(stream)), init="zeros")


def accuracy(net: nn.Module, task: continual.Task) -> float:
    return bb.metrics.accuracy(bb.predict(net, task.test.x).probs, task.test.y)


for strength in (0.0, 2.0):  # without and with the prior
    net = network()
    optimizer = bb.optimizer_for(net, num_data=1437, form="plain", lr=0.01, momentum=0.0, kl_weight=0.1)
    matrix = torch.zeros(len(stream), len(stream))
    for t, task in enumerate(stream):
        for _epoch in range(20):
            for batch in torch.randperm(len(task.train)).split(32):
                F.cross_entropy(net(task.train.x[batch]), task.train.y[batch]).backward()
                optimizer.step()
                optimizer.zero_grad()
        optimizer.set_prior_to_posterior(strength)  # the one line
        matrix[t] = torch.tensor([accuracy(net, other) for other in stream])
    final, forgotten = continual.metrics.average_accuracy(matrix), continual.metrics.forgetting(matrix)
    name = "with" if strength else "without"
    print(f"{name} the prior: accuracy {final:.1%} over all tasks, {100 * forgotten:.1f} points forgotten")
