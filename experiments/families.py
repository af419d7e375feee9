"""Families of networks that people bring from `transformers`: what becomes binary, whether they learn, and predict.

    pip install transformers
    python experiments/families.py --output experiments/results/families.json
    python experiments/families.py --output experiments/results/families.json --page docs/families.md

Small configurations with random weights.  Each is converted by `binarize_`, trained for 30 steps on one batch with the
defaults of `optimizer_for`, and asked for the mean of four drawn networks.
"""

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import bayesbinn as bb
from bayesbinn.environment import environment
from bayesbinn.files import write_text

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "num_labels": 3}
TEXT = {**SMALL, "vocab_size": 64, "pad_token_id": 0}
CAUSAL = {**TEXT, "num_key_value_heads": 2}
DISTIL = {"vocab_size": 64, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "num_labels": 3}
GPT = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "num_labels": 3, "pad_token_id": 0}
PICTURE = {**SMALL, "image_size": 16, "patch_size": 4}
STAGES = {"hidden_sizes": [16, 32], "depths": [1, 1], "num_labels": 3}
SWIN = {"image_size": 16, "patch_size": 2, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "num_labels": 3}
# name -> (what inputs it takes, class of the network, configuration)
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("ids", "BertForSequenceClassification", TEXT),
    "roberta": ("ids", "RobertaForSequenceClassification", {**TEXT, "max_position_embeddings": 40}),
    "distilbert": ("ids", "DistilBertForSequenceClassification", DISTIL),
    "electra": ("ids", "ElectraForSequenceClassification", {**TEXT, "embedding_size": 32}),
    "gpt2": ("ids", "GPT2ForSequenceClassification", GPT),
    "llama": ("ids", "LlamaForSequenceClassification", CAUSAL),
    "qwen3": ("ids", "Qwen3ForSequenceClassification", {**CAUSAL, "head_dim": 8}),
    "gemma": ("ids", "GemmaForSequenceClassification", {**CAUSAL, "head_dim": 8}),
    "vit": ("pixels", "ViTForImageClassification", PICTURE),
    "deit": ("pixels", "DeiTForImageClassification", PICTURE),
    "swin": ("pixels", "SwinForImageClassification", {**SWIN, "window_size": 4}),
    "convnext": ("pixels", "ConvNextForImageClassification", {**STAGES, "num_stages": 2, "patch_size": 2}),
    "resnet": ("pixels", "ResNetForImageClassification", {**STAGES, "embedding_size": 16, "layer_type": "basic"}),
    "mobilenet_v2": ("pixels", "MobileNetV2ForImageClassification", {"depth_multiplier": 0.25, "num_labels": 3}),
    "regnet": ("pixels", "RegNetForImageClassification", {**STAGES, "embedding_size": 16, "groups_width": 8}),
}
INPUTS: dict[str, Callable[[], Tensor]] = {
    "ids": lambda: torch.randint(1, 64, (24, 12)),
    "pixels": lambda: torch.randn(24, 3, 16, 16),
}
NAMES = {"ids": "input_ids", "pixels": "pixel_values"}


def tried(inputs: str, kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What became of one family, or the first line of what went wrong."""
    import transformers

    torch.manual_seed(0)
    model_class = getattr(transformers, kind)
    net = model_class(model_class.config_class(**settings))
    x, y = INPUTS[inputs](), torch.arange(24) % 3
    found: dict[str, Any] = {"inputs": inputs, "class": kind}
    try:
        bb.binarize_(net, quiet=True)
        said = bb.summary(net)
        found |= {"layers": said.layers, "share": said.num_binary / (said.num_binary + said.num_real)}
        found["real"] = sorted({f"{own.kind}: {own.reason}" for own in said.real})
        found["bytes"] = [said.float_bytes, said.binary_bytes]
        optimizer = bb.optimizer_for(net, num_data=24)
        losses = []
        for _ in range(30):
            loss = F.cross_entropy(net.train()(**{NAMES[inputs]: x}).logits, y)
            losses.append(float(loss))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        bb.calibrate_(net, {NAMES[inputs]: x})
        p = bb.predict(net, {NAMES[inputs]: x}, 4, output="logits")
        found |= {"losses": [losses[0], losses[-1]], "accuracy": float((p.labels == y).float().mean())}
    except Exception as error:  # whatever a family of another project may raise: it is the result
        found["error"] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
    return found


def table(runs: dict[str, Any]) -> str:
    lines = [
        "| family | binary layers | binary % | stays real | bytes, float → bits | loss, 30 steps | batch learned % |"
    ]
    lines.append("|---" * 7 + "|")
    for name, run in runs.items():
        if "error" in run:
            lines.append(f"| {name} | {run['error']} |" + " – |" * 5)
            continue
        layers = ", ".join(f"{n} {kind}" for kind, n in run["layers"].items())
        size = " → ".join(f"{b:,}" for b in run["bytes"])
        loss = " → ".join(f"{value:.2f}" for value in run["losses"])
        real = "; ".join(run["real"]) or "norms, biases"
        lines.append(
            f"| {name} | {layers} | {100 * run['share']:.1f} | {real} | {size} | {loss} | {100 * run['accuracy']:.0f} |"
        )
    return "\n".join(lines)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--page", type=Path, help="write the table into this page, run nothing")
    arguments = parser.parse_args()
    if arguments.page:
        stored = json.loads(arguments.output.read_text(encoding="utf-8"))
        text = arguments.page.read_text(encoding="utf-8")
        begin, end = "<!-- families: begin -->", "<!-- families: end -->"
        before, after = text.partition(begin)[0], text.partition(end)[2]
        at = stored["environment"]
        made = f"`{at['command']}`, transformers {stored['transformers']}, torch {at['torch']}."
        write_text(arguments.page, f"{before}{begin}\n{table(stored['runs'])}\n\n{made}\n{end}{after}")
        return
    import transformers

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    runs = {}
    for name, given in FAMILIES.items():
        runs[name] = tried(*given)
        print(name, json.dumps(runs[name]), flush=True)
    content = {"environment": environment(), "transformers": transformers.__version__, "runs": runs}
    content["environment"]["command"] = "families.py --output experiments/results/families.json"
    write_text(arguments.output, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
