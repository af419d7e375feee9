"""The loop everybody already has, with ±1 weights: train on the digits, predict, say how sure.

python examples/own_loop.py
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import bayesbinn as bb

torch.manual_seed(0)
digits = load_digits()
x, y = torch.tensor(digits.data).float() / 16, torch.tensor(digits.target)
loader = DataLoader(TensorDataset(x[:1437], y[:1437]), batch_size=32, shuffle=True, drop_last=True)

net = nn.Sequential(
    *(nn.Linear(64, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU()),
    *(nn.Linear(128, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU()),
    *(nn.Linear(128, 10, bias=False), nn.BatchNorm1d(10)),
)
net = bb.binarize_(net)
optimizer = bb.optimizer_for(net, num_data=1437)
epochs = 20
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))

for _epoch in range(epochs):
    for xb, yb in loader:
        F.cross_entropy(net(xb), yb).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()

for name, num_samples in (("mode", 0), ("mean of 32", 32)):
    p = bb.predict(net, x[1437:], num_samples)
    accuracy, nll = bb.metrics.accuracy(p.probs, y[1437:]), bb.metrics.nll(p.probs, y[1437:])
    print(f"{name}: accuracy {accuracy:.1%}, NLL {nll:.3f} nats")
noise = bb.predict(net, torch.rand(360, 64))
print(f"mutual information: digits {p.mutual_information.mean():.3f}, noise {noise.mutual_information.mean():.3f} nats")
print(bb.posterior_summary(net, optimizer))
