"""Attention and recurrent modules with ±1 weights: several binary weights, and torch's own way to compute with them."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .layers import BinaryLayer, Start, Twin
from .twins import BinaryLinear, BinaryWeight


class Composite(Twin):
    """A torch module whose matrices are `BinaryWeight` children of the same names; its other parameters stay real."""

    hidden_size: int

    def _take(self, layer: Any, start: Start) -> None:
        super()._take(layer, start)
        names = self._weight_names(layer)
        for name, parameter in layer._parameters.items():
            if name in names:
                self.add_module(name, BinaryWeight.of(parameter, start))
            else:
                self.register_parameter(name, parameter)

    def _weight_names(self, layer: Any) -> list[str]:
        return [name for name in layer._parameters if name.startswith("weight")]

    def sources(self, layer: Any) -> list[tuple[Any, BinaryLayer]]:
        return [(id(getattr(layer, name)), getattr(self, name)) for name in self._weight_names(layer)]

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start anew: its weights as `BinaryLayer` does, its biases as torch draws them."""
        for child in self.children():
            child.reset_parameters()  # type: ignore[operator]
        for parameter in self._parameters.values():
            if parameter is not None:
                self._reset(parameter)

    def _reset(self, bias: nn.Parameter) -> None:
        bound = 1 / math.sqrt(max(self.hidden_size, 1))
        nn.init.uniform_(bias, -bound, bound)

    def _as_float(self, like: Tensor) -> dict[str, Any]:
        """All that the float module had, with the scaled weights of this forward pass in place of its own."""
        weights = {name: child(like) for name, child in self.named_children()}
        return {**vars(self), **self._parameters, **weights}

    def extra_repr(self) -> str:
        return self.float_type.extra_repr(self)


class _Cell(Composite):
    """One step of a recurrent network: torch's code, run on a bare object that has the weights of this pass."""

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        cell: Any = object.__new__(self.float_type)
        cell.__dict__.update(self._as_float(input))
        return self.float_type.forward(cell, input, hx)


class BinaryRNNCell(_Cell):
    """`torch.nn.RNNCell` with ±1 weights."""

    float_type = nn.RNNCell


class BinaryLSTMCell(_Cell):
    """`torch.nn.LSTMCell` with ±1 weights."""

    float_type = nn.LSTMCell


class BinaryGRUCell(_Cell):
    """`torch.nn.GRUCell` with ±1 weights."""

    float_type = nn.GRUCell


class _Recurrent(Composite):
    _flat_weights_names: list[str]

    def _take(self, layer: Any, start: Start) -> None:
        super()._take(layer, start)
        self._flat_weights: list[Any] = []  # torch's list of its parameters
        self._flat_weight_refs: list[Any] = []

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> Any:
        rnn: Any = object.__new__(self.float_type)
        given = self._as_float(input.data if isinstance(input, PackedSequence) else input)
        weights = [given[name] for name in self._flat_weights_names]
        # without names torch does not look whether its parameters are still those in its list
        rnn.__dict__.update(given, _flat_weights=weights, _flat_weights_names=[])
        return self.float_type.forward(rnn, input, hx)

    def flatten_parameters(self) -> None:
        """Does nothing: the weights are made anew in each forward pass."""


class BinaryRNN(_Recurrent):
    """`torch.nn.RNN` with ±1 weights: each matrix has its own λ and scale.  Arguments as RNN and `BinaryLinear`."""

    float_type = nn.RNN


class BinaryGRU(_Recurrent):
    """`torch.nn.GRU` with ±1 weights: each matrix has its own λ and scale.  Arguments as GRU and `BinaryLinear`."""

    float_type = nn.GRU


class BinaryLSTM(_Recurrent):
    """`torch.nn.LSTM` with ±1 weights: each matrix has its own λ and scale.  Arguments as LSTM and `BinaryLinear`.

    >>> outputs, (hidden, cell) = BinaryLSTM(4, 8, bidirectional=True)(torch.zeros(5, 2, 4))
    >>> outputs.shape, hidden.shape
    (torch.Size([5, 2, 16]), torch.Size([2, 2, 8]))
    """

    float_type = nn.LSTM


class BinaryMultiheadAttention(Composite):
    """`torch.nn.MultiheadAttention` whose projections of queries, keys, values and outputs have ±1 weights.

    Arguments, masks and outputs as there, and the arguments of `BinaryLinear`.

    >>> attention, x = BinaryMultiheadAttention(8, num_heads=2, batch_first=True), torch.zeros(3, 5, 8)
    >>> outputs, weights = attention(x, x, x)
    >>> outputs.shape, weights.shape
    (torch.Size([3, 5, 8]), torch.Size([3, 5, 5]))
    """

    float_type = nn.MultiheadAttention

    PARTS = ("q_proj_weight", "k_proj_weight", "v_proj_weight")

    batch_first: bool

    def _weight_names(self, layer: Any) -> list[str]:
        return ["in_proj_weight"] if layer._qkv_same_embed_dim else list(self.PARTS)

    def _take(self, layer: Any, start: Start) -> None:
        Twin._take(self, layer, start)
        for name, weight in self._parts(layer).items():
            self.add_module(name, BinaryWeight.of(nn.Parameter(weight, weight.requires_grad), start))
        for name in ("in_proj_bias", "bias_k", "bias_v"):
            self.__dict__.pop(name, None)  # None is no parameter of torch's
            self.register_parameter(name, layer._parameters.get(name))
        self.out_proj = BinaryLinear.from_float(
            layer.out_proj, start.binarizer, start.init, start.magnitude, start.scale
        )

    def _parts(self, layer: Any) -> dict[str, Tensor]:
        if not layer._qkv_same_embed_dim:
            return {name: getattr(layer, name) for name in self.PARTS}
        return dict(zip(self.PARTS, layer.in_proj_weight.chunk(3), strict=True))

    def sources(self, layer: Any) -> list[tuple[Any, BinaryLayer]]:
        joint = layer._qkv_same_embed_dim
        keys = [(id(layer.in_proj_weight), name) if joint else id(getattr(layer, name)) for name in self.PARTS]
        parts = [(key, getattr(self, name)) for key, name in zip(keys, self.PARTS, strict=True)]
        return [*parts, (id(layer.out_proj.weight), self.out_proj)]

    def _reset(self, bias: nn.Parameter) -> None:
        if bias.ndim == 1:
            nn.init.zeros_(bias)
        else:
            nn.init.xavier_normal_(bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As torch's; without `need_weights` by `F.scaled_dot_product_attention`."""
        s: Any = self
        swap = self.batch_first and query.dim() == 3
        if swap:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        q, k, v = (getattr(self, name)(query) for name in self.PARTS)
        output, weights = F.multi_head_attention_forward(
            query,
            key,
            value,
            s.embed_dim,
            s.num_heads,
            None,
            s.in_proj_bias,
            s.bias_k,
            s.bias_v,
            s.add_zero_attn,
            s.dropout,
            self.out_proj.scaled_weight(query),
            self.out_proj.bias,
            training=self.training,
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            use_separate_proj_weight=True,
            q_proj_weight=q,
            k_proj_weight=k,
            v_proj_weight=v,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
        )
        return output.transpose(0, 1) if swap else output, weights

    def extra_repr(self) -> str:
        s: Any = self
        return f"{s.embed_dim}, num_heads={s.num_heads}, batch_first={s.batch_first}"
