"""The loop everybody already has, with ±1 weights: train on the digits, predict, say how sure.

python examples/own_loop.py
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import bayesbinn as bb

torch.manual_seed(0)
digits = load_digits()
x, y = torch.tensor(digits.data).float() / 16, torch.tensor(digits.target)
x, x_test, y, y_test = train_test_split(x, y, test_size=360, random_state=0, stratify=y)
loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True, drop_last=True)

net = nn.Sequential(
    *(nn.Linear(64, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU()),
    *(nn.Linear(128, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU()),
    *(nn.Linear(128, 10, bias=False), nn.BatchNorm1d(10)),
)
net = bb.binarize_(net)
optimizer = bb.optimizer_for(net, num_data=len(x))
epochs = 20
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))

for _epoch in range(epochs):
    for xb, yb in loader:
        F.cross_entropy(net(xb), yb).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()

bb.calibrate_(net, loader)
for name, num_samples in (("mode", 0), ("mean of 32", 32)):
    p = bb.predict(net, x_test, num_samples)
    accuracy, nll = bb.metrics.accuracy(p.probs, y_test), bb.metrics.nll(p.probs, y_test)
    print(f"{name}: accuracy {accuracy:.1%}, NLL {nll:.3f} nats")
noise = bb.predict(net, torch.rand(360, 64))
print(f"mutual information: digits {p.mutual_information.mean():.3f}, noise {noise.mutual_information.mean():.3f} nats")
print(bb.posterior_summary(net, optimizer))
