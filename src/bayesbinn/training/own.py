"""A network of a person's own code: what is checked before it is trained, and that a refused one is as it was."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..data import Data
from ..errors import UserError
from ..nn import binary_layers, summary
from ..nn.inputs import Inputs, evaluating, seeded
from ..nn.overview import ASKED
from .config import Config
from .models import Normalize
from .options import options_of

TABLES = ("_modules", "_parameters", "_buffers")  # of a module: what replacing a layer, or moving it, changes


@contextmanager
def restored_on_error(net: nn.Module | None) -> Iterator[None]:
    """Give `net` its layers and their values back if what is inside fails; None is none."""
    modules = [] if net is None else list(net.modules())
    before = [{name: dict(getattr(module, name)) for name in TABLES} for module in modules]
    binarizers = [(module, getattr(module, "binarizer", None)) for module in modules]
    tensors = [t for tables in before for name in TABLES[1:] for t in tables[name].values() if t is not None]
    values = [(t, t.data, t.detach().clone()) for t in tensors if not is_lazy(t)]
    try:
        yield
    except BaseException:
        for module, tables in zip(modules, before, strict=True):
            for name, table in tables.items():
                own = getattr(module, name)
                own.clear()
                own.update(table)
        for module, binarizer in binarizers:
            if binarizer is not None:
                module.binarizer = binarizer
        for tensor, data, value in values:
            data.copy_(value)
            tensor.data = data
        raise


def data_for(net: nn.Module, data: Data, seed: int) -> Data:
    """The data as the network takes them: arrays (N, H, W) are images of one channel, or else sequences.

    Raises:
        UserError: as `check_outputs`.
    """
    if _reads_ids(net, data, seed):
        raise UserError(
            f"an Embedding of the network reads the inputs of {data.name}, which fit standardises: train a network of "
            "token ids in a loop of your own (docs/own-network.md)"
        )
    try:
        check_outputs(net, data, seed)
    except UserError as error:
        if data.train.x.ndim != 4 or data.train.x.shape[1] != 1:
            raise
        parts = {name: getattr(data, name) for name in ("train", "validation", "test")}
        sequences = replace(data, **{n: part and replace(part, x=part.x.squeeze(1)) for n, part in parts.items()})
        note = f"{data.name} is given to the network as sequences (B, {', '.join(map(str, sequences.input_shape))})"
        try:
            check_outputs(net, sequences, seed)
        except UserError:
            raise error from None
        return replace(sequences, notes=(*data.notes, note))
    return data


def standardises(data: Data) -> bool:
    """Whether `Normalize` with the statistics of `data` changes inputs by more than a twentieth of their spread."""
    return bool(((data.mean.abs() > 0.05) | ((data.std - 1).abs() > 0.05)).any())


def _reads_ids(net: nn.Module, data: Data, seed: int) -> bool:
    """Whether what an Embedding of the network reads comes from its inputs; positions do not."""
    seen: list[Tensor] = []
    hooks = [
        m.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
        for m in net.modules()
        if isinstance(m, nn.Embedding)
    ]
    if not hooks:
        return False
    x = Normalize(data.mean, data.std, data.train.x.ndim - 1)(data.train.x[:2].cpu().float())
    read = []
    for inputs in (x, 100 * x):
        with suppress(Exception), evaluating(net), seeded(net, seed), torch.no_grad():
            Inputs((inputs,)).through(net)  # what fails is told by `check_outputs`, or reads numbers as ids
        read.append(list(seen))
        seen.clear()
    for hook in hooks:
        hook.remove()
    one, other = read
    return len(one) != len(other) or any(
        a.is_floating_point() or a.shape != b.shape or not torch.equal(a, b) for a, b in zip(one, other, strict=True)
    )


def check_outputs(net: nn.Module, data: Data, seed: int) -> None:
    """Ask the network for its logits of two examples, before hours of training.

    Raises:
        UserError: if it does not take the inputs, or has not an output for each class.
    """
    if data.task == "text":
        raise UserError(f"{data.name} is text, which fit gives to the model 'gpt' only: train your network in a loop")
    x = data.train.x[:2].cpu().float()
    shape = tuple(x.shape)
    try:
        with evaluating(net), seeded(net, seed), torch.no_grad():
            out = Inputs((Normalize(data.mean, data.std, x.ndim - 1)(x),)).through(net)
    except Exception as error:  # whatever a person's code may raise
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"the network fails on inputs of shape {shape} ({reason}): make it take such inputs") from error
    found = f"outputs of shape {tuple(out.shape)}" if isinstance(out, Tensor) else f"a {type(out).__name__}"
    least, most = data.num_outputs, None if data.num_classes else 1  # a classifier may have outputs to spare
    if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != len(x) or not least <= out.shape[1] <= (most or 1e9):
        has, what = (f"{least} classes", "logits") if data.num_classes else ("numbers to predict", "one output")
        raise UserError(
            f"for inputs of shape {shape} the network returns {found}: {data.name} has {has}, make it return {what} of "
            f"shape {(len(x), least)}"
        )


def ignored(net: nn.Module, config: Config) -> list[str]:
    """A sentence for each setting of layers still to be made binary, given for a network that has such layers."""
    o = config.method_options
    if not any(True for _ in binary_layers(net)):
        return []
    given = {"real_ends": config.real_ends} if config.real_ends else {}
    defaults = {name: f.default for name, f in options_of(o).items()}
    beside = {n: getattr(o, n) for n in ("estimator", "form", "natural_dtype") if hasattr(o, n)}
    chosen = {"model": config.model, "method": config.method, "start": config.start}
    defaults |= type(config).defaults(chosen | beside)
    for name in ("init", "magnitude", "scale"):
        if name in options_of(o) and getattr(o, name) != defaults[name]:
            given[name] = getattr(o, name)
    return [f"{name} {value} has no effect on a network that is binary already" for name, value in given.items()]


def left_real(net: nn.Module, config: Config) -> list[str]:
    """A sentence for the weights of a network that have no binary twin, where the method has binary weights."""
    if config.method_row.binarizer is None:
        return []
    groups: dict[str, list[str]] = {}
    for own in summary(net).real:
        if own.reason != ASKED:
            groups.setdefault(f"{own.kind}: {own.reason}", []).append(own.name)
    return [f"these weights stay real: {', '.join(names)} ({why})" for why, names in groups.items()]
