"""Turn a trained float network into a binary one: start λ from its weights, then train a little.

python examples/convert_pretrained.py
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import bayesbinn as bb

torch.manual_seed(0)
digits = load_digits()
x, y = torch.tensor(digits.data).float() / 16, torch.tensor(digits.target)
x_train, y_train, x_test, y_test = x[:1437], y[:1437], x[1437:], y[1437:]


def train(net: nn.Module, optimizer: torch.optim.Optimizer, epochs: int) -> None:
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * (len(x_train) // 32))
    net.train()
    for _epoch in range(epochs):
        for batch in torch.randperm(len(x_train)).split(32)[:-1]:
            F.cross_entropy(net(x_train[batch]), y_train[batch]).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()


def report(name: str, net: nn.Module) -> None:
    print(f"{name}: accuracy {bb.metrics.accuracy(bb.predict(net, x_test, num_samples=0).probs, y_test):.1%}")


net = nn.Sequential(
    *(nn.Linear(64, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU()),
    *(nn.Linear(256, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU()),
    *(nn.Linear(256, 10, bias=False), nn.BatchNorm1d(10)),
)
train(net, torch.optim.Adam(net.parameters(), lr=1e-3), epochs=10)
report("float", net)

# the mode keeps the signs and the size of the weights, small weights stay undecided
bb.binarize_(net, init="weights", magnitude=2.0, scale="learned")
bb.calibrate_(net, x_train)  # batch norm still had the statistics of the float network
report("binary, as converted", net)

train(net, bb.optimizer_for(net, num_data=len(x_train), real_lr=1e-3), epochs=10)
bb.calibrate_(net, x_train)
report("binary, after 10 epochs", net)
