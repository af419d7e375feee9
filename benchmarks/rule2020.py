"""The 2020 rule in plain torch operations, the way it was published: one flat vector of λ, a closure, copies back.

Written from its formulas for comparison; `bayesbinn.binarizers.Reference2020` is the same estimator in this library.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

EPSILON = 1e-10


class Rule2020:
    """Step t = 1, 2, ...: draw w = tanh((λ + δ)/τ), put it into the parameters, differentiate, scale, update."""

    def __init__(self, params: list[nn.Parameter], lr: float, num_data: int, temperature: float = 1.0) -> None:
        self.params, self.lr, self.num_data, self.temperature = params, lr, num_data, temperature
        self.natural = parameters_to_vector(params).detach().sign() * 10
        self.mean = torch.tanh(self.natural)
        self.prior = torch.zeros_like(self.natural)
        self.momentum, self.beta, self.t = torch.zeros_like(self.natural), 0.0, 0

    def draw(self) -> Tensor:
        u = torch.rand_like(self.natural)
        noise = 0.5 * torch.log((u + EPSILON) / (1 - u + EPSILON))
        weight = torch.tanh((self.natural + noise) / self.temperature)
        vector_to_parameters(weight, self.params)
        return weight

    def update(self, weight: Tensor, grads: list[Tensor]) -> None:
        grad = parameters_to_vector(grads)
        scale = (1 - weight * weight + EPSILON) / self.temperature / (1 - self.mean * self.mean + EPSILON)
        descent = self.num_data * scale * grad + (self.natural - self.prior)
        self.t += 1
        self.momentum = self.beta * self.momentum + (1 - self.beta) * descent
        self.natural = self.natural - self.lr * self.momentum / (1 - self.beta**self.t)
        self.mean = torch.tanh(self.natural)

    def step(self, closure: Callable[[], Tensor]) -> Tensor:
        weight = self.draw()
        loss = closure()
        self.update(weight, list(torch.autograd.grad(loss, self.params)))
        return loss
