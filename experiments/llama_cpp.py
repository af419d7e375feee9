"""A run of text and its GGUF file in stock llama.cpp: are they the same network?

    bayesbinn export RUN --format gguf --output FILE.gguf
    pip install xllamacpp
    python experiments/llama_cpp.py RUN FILE.gguf --output experiments/results/llama-cpp.json

Ours is torch with float activations; llama.cpp reads 1-bit weights with activations in blocks of 8 bits, and keeps
keys and values in float16.  The file's numbers in float32, run in float32, say how much of a difference is of that:
what is left then is that a GGUF file has its scales in float16.
"""

import argparse
import json
import math
import platform
import re
import shlex
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from bayesbinn.data.text import load_text
from bayesbinn.data.tokens import Tokenizer, tokenizer_of
from bayesbinn.deploy import read_gguf
from bayesbinn.files import write_text
from bayesbinn.nn.draws import draw, fixed_weights, generator_for
from bayesbinn.training import load_run
from benchmarks.inference import machine

ALIGNMENT = 32  # of tensors in a GGUF file, in bytes


class LlamaCpp:
    """A GGUF file in llama.cpp, on one processor core: the wheel xllamacpp, built from llama.cpp as it is.

    Args:
        exact: attention in float32; by default llama.cpp rounds keys and values to float16.
    """

    def __init__(self, path: Path, context: int, exact: bool = False) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel, params.n_gpu_layers = context, 1, 0
        params.warmup, params.verbosity, params.cpuparams.n_threads = False, 0, 1
        if exact:
            params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
            params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.server = xllamacpp.Server(params)
        self.letter = self.tokenize("a")[0]

    def complete(self, tokens: Sequence[int], count: int, bias: dict[int, float] | None = None) -> list[int]:
        """The most likely next `count` tokens; `bias` is added to the logits of the tokens it names."""
        return list(self._asked(tokens, count, bias or {}, return_tokens=True)["tokens"])

    def log_p(self, tokens: Sequence[int], vocabulary: int) -> NDArray[np.float64]:
        """(V,) log-probabilities of what follows, in nats."""
        # they are left out after a part of a UTF-8 character, so the token chosen is always a letter; a bias does not
        # change them
        answer = self._asked(tokens, 1, {self.letter: 1000.0}, n_probs=vocabulary)
        found = np.full(vocabulary, -np.inf)
        for entry in answer["completion_probabilities"][0]["top_logprobs"]:
            found[entry["id"]] = entry["logprob"]
        return found

    def tokenize(self, text: str) -> list[int]:
        """The tokens of a text."""
        return list(self._post("/tokenize", {"content": text})["tokens"])

    def _asked(self, tokens: Sequence[int], count: int, bias: dict[int, float], **more: Any) -> Any:
        pairs = [[token, value] for token, value in bias.items()]
        asked = {"prompt": list(tokens), "n_predict": count, "temperature": 0, "logit_bias": pairs}
        return self._post("/completion", asked | more)

    def _post(self, path: str, asked: dict[str, Any]) -> Any:
        body, kind = json.dumps(asked).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(self.server.listening_address + path, body, kind)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)


@torch.no_grad()
def greedy(net: nn.Module, prompt: Sequence[int], count: int) -> tuple[list[int], Tensor]:
    """(the most likely next tokens, log-probabilities (count, V) that they were chosen from)."""
    tokens, found = list(prompt), []
    for _ in range(count):
        found.append(net(torch.tensor([tokens]))[0, -1].double().log_softmax(-1))
        tokens.append(int(found[-1].argmax()))
    return tokens[len(prompt) :], torch.stack(found)


def compare_greedy(net: nn.Module, llama: LlamaCpp, prompt: list[int], count: int, tokenizer: Tokenizer) -> Any:
    """Both texts, where they part, and how close the two candidates are there."""
    ours, log_p = greedy(net, prompt, count)
    theirs = llama.complete(prompt, count)
    shared = min(len(ours), len(theirs))
    parted = next((i for i in range(shared) if ours[i] != theirs[i]), None)
    found = {
        "prompt": _shown(tokenizer, prompt),
        "tokens": shared,
        "ours": _shown(tokenizer, ours),
        "llama.cpp": _shown(tokenizer, theirs),
        "first divergence": parted,
    }
    if parted is not None:
        own, other = ours[parted], theirs[parted]
        far = llama.log_p([*prompt, *ours[:parted]], log_p.shape[1])
        found["there"] = {
            "candidates": [_shown(tokenizer, [own]), _shown(tokenizer, [other])],
            "logit gap, ours": float(log_p[parted, own] - log_p[parted, other]),
            "logit gap, llama.cpp": float(far[own] - far[other]),
        }
    return found


@torch.no_grad()
def compare_tokens(net: nn.Module, llama: LlamaCpp, windows: Any, count: int) -> dict[str, Any]:
    """Log-probabilities, in nats, of the tokens that came, from the second of each window on."""
    own, far, divergence = list[float](), list[float](), list[float]()
    for index in range(len(windows)):
        tokens = windows[index : index + 1]
        log_p = net(tokens)[0].double().log_softmax(-1).numpy()
        row = tokens[0].tolist()
        for place in range(1, len(row)):
            theirs = llama.log_p(row[:place], log_p.shape[1])
            ours = log_p[place - 1]
            own.append(float(ours[row[place]]))
            far.append(float(theirs[row[place]]))
            divergence.append(float((np.exp(ours) * (ours - theirs)).sum()))
            if len(own) == count:
                break
        if len(own) == count:
            break
    off = np.abs(np.array(own) - np.array(far))
    return {
        "tokens": len(own),
        "largest difference": float(off.max()),
        "mean difference": float(off.mean()),
        "mean KL(ours, llama.cpp)": float(np.mean(divergence)),
        "nats a token, ours": -float(np.mean(own)),
        "nats a token, llama.cpp": -float(np.mean(far)),
        "bits a token, ours": -float(np.mean(own)) / math.log(2),
        "bits a token, llama.cpp": -float(np.mean(far)) / math.log(2),
    }


def sizes(path: Path) -> dict[str, Any]:
    """Bytes of the file, of the same with its matrices in float16 (norms in float32), and of all in float32."""
    import gguf

    tensors = gguf.GGUFReader(path).tensors
    rest = path.stat().st_size - sum(_padded(int(tensor.n_bytes)) for tensor in tensors)
    half = sum(_padded(int(tensor.n_elements) * (4 if len(tensor.shape) == 1 else 2)) for tensor in tensors)
    full = sum(_padded(int(tensor.n_elements) * 4) for tensor in tensors)
    size = path.stat().st_size
    return {
        "bytes": size,
        "bytes in float16": rest + half,
        "bytes in float32": rest + full,
        "smaller than float16": (rest + half) / size,
        "bytes by type": {
            kind: sum(int(t.n_bytes) for t in tensors if t.tensor_type.name == kind)
            for kind in sorted({t.tensor_type.name for t in tensors})
        },
    }


def unpack(path: Path, target: Path) -> None:
    """The same file with every number in float32."""
    import gguf

    reader = gguf.GGUFReader(path)
    out = gguf.GGUFWriter(target, "llama")
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            out.add_key_value(key, field.contents(), field.types[0], field.types[-1] if len(field.types) > 1 else None)
    for name, values in read_gguf(path)[1].items():
        out.add_tensor(name, values)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _shown(tokenizer: Tokenizer, tokens: Sequence[int]) -> str:
    return tokenizer.decode(tokens).decode(errors="replace")


def weights_of(net: nn.Module, network: str) -> dict[str, Tensor]:
    """The weights that a file says it holds: none for the mode, which is in force anyway."""
    found = re.fullmatch(r"sample (\d+) of seed (-?\d+)", network)
    if not found:
        return {}
    generator = generator_for(net, int(found[2]))
    return [draw(net, generator) for _ in range(int(found[1]))][-1]


def measure(run: Path, path: Path, count: int, prompt: str, length: int) -> dict[str, Any]:
    """All figures of a run and its file."""
    sequence, config, description = load_run(run)
    tokenizer = tokenizer_of(description["tokenizer"])
    context, net = config.context, sequence[0]
    data = load_text(config.data, context, config.vocabulary, config.validation, tokenizer)
    if data.fingerprint != description["data"]:
        raise SystemExit(f"{config.data} has changed since {run} was trained: give the run its own text")
    facts, _ = read_gguf(path)
    llama = LlamaCpp(path, context)
    start = tokenizer.encode(prompt.encode()).tolist()
    length = min(length, context - len(start))
    weights = weights_of(net, facts["bayesbinn.network"])
    with tempfile.TemporaryDirectory() as folder:
        unpack(path, Path(folder) / "unpacked.gguf")
        unpacked = LlamaCpp(Path(folder) / "unpacked.gguf", context, exact=True)  # mapped: the name may go
    with fixed_weights(net, weights or {}) if weights else torch.no_grad():
        return {
            "run": {key: value for key, value in facts.items() if key.startswith(("bayesbinn.", "general.name"))},
            "shape": {key: value for key, value in facts.items() if key.startswith("llama.")},
            "same tokens": llama.tokenize(prompt) == start,
            "greedy": compare_greedy(net, llama, start, length, tokenizer),
            "held-out text": compare_tokens(net, llama, data.test.x, count),
            "held-out text, all in float32": compare_tokens(net, unpacked, data.test.x, count),
            "size": sizes(path),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--tokens", type=int, default=1000, help="of held-out text")
    parser.add_argument("--prompt", default="The ")
    parser.add_argument("--length", type=int, default=200, help="of the greedy text, in tokens; the context may end it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {
        "command": shlex.join(["python", "experiments/llama_cpp.py", *sys.argv[1:]]),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": machine(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("bayesbinn", "torch", "gguf", "xllamacpp")},
        },
        **measure(arguments.run, arguments.file, arguments.tokens, arguments.prompt, arguments.length),
    }
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    print(text)
    if arguments.output:
        write_text(arguments.output, text)


if __name__ == "__main__":
    main()
