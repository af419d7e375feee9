"""`bayesbinn export --format gguf`."""

import json
from pathlib import Path

from ..data.tokens import written
from ..deploy import GGUFReport, save_gguf
from ..errors import UserError
from ..posterior import has_posterior
from ..training import load_run


def export_gguf(run: Path, target: Path, sample: int, seed: int) -> GGUFReport:
    """Write the network of a run folder as GGUF: its mode (sample 0), or a network of its posterior.

    Raises:
        UserError: for a run that GGUF cannot hold.
    """
    if run.is_file():
        raise UserError(f"{run} is a file of bits, gguf is made of the run itself: give the run folder")
    net, config, description = load_run(run)
    if description["task"] != "text":
        raise UserError(f"{run} holds model {config.model!r}, gguf holds decoders of text: train one with --model gpt")
    if sample and not has_posterior(net):
        raise UserError(
            f"--sample draws from a posterior, and {run} is one network (method {config.method}): leave --sample out"
        )
    kind, _, where = config.data.partition(":")
    about: dict[str, str | float] = {"method": config.method, "data": f"{kind}:{Path(where).name}"}
    evaluation = run / "evaluation.json"
    if not sample and evaluation.exists():
        mode = json.loads(evaluation.read_text(encoding="utf-8"))["mode"]
        about["bits_per_byte"] = float(mode["bits_per_byte"])
    tokens, merges = written(description["tokenizer"])
    name = run.resolve().name
    try:
        return save_gguf(net, target, tokens, merges, sample=sample, seed=seed, name=name, about=about)
    except ImportError:
        raise UserError("the format gguf needs the package gguf: pip install 'bayesbinn[gguf]'") from None
    except ValueError as error:
        raise UserError(f"{run}: {error}") from None
