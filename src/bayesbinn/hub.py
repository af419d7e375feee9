"""Runs on the Hugging Face Hub: a run's files, none of them a pickle, and a model card of its own figures.

A network of your own needs nothing of this: `PyTorchModelHubMixin` takes it (docs/ecosystem.md).
"""

import json
from pathlib import Path
from typing import Any

from .cli.tables import evaluation_lines
from .errors import UserError
from .training import load_run
from .training.config import read_toml

FILES = ("config.toml", "checkpoint.safetensors", "metrics.jsonl", "evaluation.json", "report.html")


def model_card(run: Path | str) -> str:
    """The README.md of a run: what it is, what was measured, and how to use it; no figure that the run does not hold.

    Raises:
        UserError: if `run` is no finished run.
    """
    run = Path(run)
    for name in ("config.toml", "evaluation.json"):
        if not (run / name).exists():
            raise UserError(f"{run} is no finished run ({name} is missing): train it first")
    settings = read_toml(run / "config.toml")
    result = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    method, model, data = (settings.get(name, "") for name in ("method", "model", "data"))
    lines = "\n".join(evaluation_lines(result))
    chosen = "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items() if _told(value))
    return f"""---
library_name: bayesbinn
tags: [binary-neural-network, bayesian, uncertainty, safetensors]
---

# {model} for {Path(str(data)).name}

A network with weights of ±1, trained with bayesbinn, method `{method}`. It holds a
probability for each weight, so it can say how sure it is.

Measured on the test set after training:

```text
{lines}
```

## Use

```python
import bayesbinn as bb

run = bb.hub.pull("REPO", "run")
net, config, description = bb.training.load_run(run)
p = bb.predict(net, x)  # x: inputs in the units of the data files
```

## Settings

```toml
{chosen}
```
"""


def push(run: Path | str, repo_id: str, *, private: bool = False, api: Any = None) -> str:
    """Upload a finished run and its model card as one commit; returns the address of the repository.

    Args:
        run: a folder of `bayesbinn train`.
        repo_id: "USER/NAME"; made if it does not exist.
        private: of a new repository.
        api: a `huggingface_hub.HfApi` with a token or an endpoint of your own; default: the one you are logged in to.

    Raises:
        UserError: if huggingface_hub is missing, or `run` is no finished run.
    """
    hub, run = _library(), Path(run)
    card = model_card(run).replace('"REPO"', f'"{repo_id}"')
    load_run(run)  # what cannot be loaded is not shared
    api = api or hub.HfApi()
    address = str(api.create_repo(repo_id, private=private, exist_ok=True))
    files = [hub.CommitOperationAdd(name, str(run / name)) for name in FILES if (run / name).exists()]
    files.append(hub.CommitOperationAdd("README.md", card.encode()))
    api.create_commit(repo_id, files, commit_message="A run of bayesbinn")
    return address


def pull(repo_id: str, folder: Path | str, *, revision: str | None = None, api: Any = None) -> Path:
    """Download a run into `folder`, and check that it can be loaded; returns the folder.

    Args:
        repo_id: "USER/NAME".
        folder: new or empty.
        revision: a branch, tag or commit; default: the newest.
        api: as for `push`.

    Raises:
        UserError: if huggingface_hub is missing, `folder` holds anything, or the repository holds no run.
    """
    hub, folder = _library(), Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not an empty folder: choose another")
    api = api or hub.HfApi()
    held = set(api.list_repo_files(repo_id, revision=revision))
    if not set(FILES[:2]) <= held:
        raise UserError(f"{repo_id} holds no run of bayesbinn: it needs {FILES[0]} and {FILES[1]}")
    for name in FILES:
        if name in held:
            api.hf_hub_download(repo_id, name, revision=revision, local_dir=str(folder))
    load_run(folder)
    return folder


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(f"the Hub needs huggingface_hub ({error}): pip install 'bayesbinn[hub]'") from None
    return huggingface_hub


def _told(value: Any) -> bool:
    return not (isinstance(value, str) and value.startswith("/"))  # a path of the one who trained says nothing
