"""Real first and last layer, binary middle, and two groups of binary weights with their own step size and KL weight.

python examples/mixed_groups.py
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import bayesbinn as bb

torch.manual_seed(0)
digits = load_digits()
x, y = torch.tensor(digits.images).float()[:, None] / 16, torch.tensor(digits.target)
x_train, y_train, x_test, y_test = x[:1437], y[:1437], x[1437:], y[1437:]

net = nn.Sequential(
    *(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
    *(nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(32), nn.ReLU()),
    nn.Flatten(),
    *(nn.Linear(32 * 16, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU()),
    nn.Linear(64, 10),
)
bb.binarize_(net, exclude=["0", "11"])  # the first convolution and the last linear layer keep real weights
convolutions = [m.natural for m in net if isinstance(m, bb.BinaryConv2d)]
linears = [m.natural for m in net if isinstance(m, bb.BinaryLinear)]
_, real = bb.split_parameters(net)

rule = bb.BayesBiNN(
    [{"params": convolutions, "kl_weight": 0.0005, "lr": 0.001}, {"params": linears}],
    lr=0.004,
    num_data=len(x_train),
    kl_weight=0.001,
)
optimizer = bb.optim.NetworkOptimizer(rule, torch.optim.Adam(real, lr=0.01))
epochs = 10
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * (len(x_train) // 32))

for _epoch in range(epochs):
    for batch in torch.randperm(len(x_train)).split(32)[:-1]:
        F.cross_entropy(net(x_train[batch]), y_train[batch]).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()

bb.calibrate_(net, x_train)
p = bb.predict(net, x_test)
print(f"mean of 32: accuracy {bb.metrics.accuracy(p.probs, y_test):.1%}")
print(bb.posterior_summary(net, optimizer))
