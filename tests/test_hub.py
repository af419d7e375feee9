"""Runs to the Hub and back, with the real client against a server that answers as the Hub does."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

import bayesbinn as bb
from bayesbinn.errors import UserError

hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
COMMIT = "0" * 39 + "1"


class Hub(BaseHTTPRequestHandler):
    """One repository, in memory."""

    files: dict[str, bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            return self.answer({"url": f"http://{self.headers['Host']}/me/digits"})
        if "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            how = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            return self.answer({"files": [{"path": f["path"], **how} for f in asked]})
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        assert "/commit/" in self.path, self.path
        for line in body.decode().splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                self.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        url = f"http://{self.headers['Host']}/me/digits/commit/{COMMIT}"
        self.answer({"commitUrl": url, "commitOid": COMMIT, "success": True})

    def do_GET(self) -> None:
        if self.path.startswith("/api/models/me/digits"):
            if "/tree/" in self.path:
                return self.answer(
                    [{"type": "file", "path": p, "size": len(b), "oid": "1"} for p, b in self.files.items()]
                )
            return self.answer({"id": "me/digits", "sha": COMMIT, "siblings": [{"rfilename": n} for n in self.files]})
        content = self.files[self.path.rpartition("/")[2].partition("?")[0]]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET  # noqa: N815  (its name is the method of HTTP)

    def answer(self, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    Hub.files = {}
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield hub.HfApi(endpoint=f"http://127.0.0.1:{found.server_port}", token="hf_test")
        found.shutdown()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("hub") / "run"
    bb.fit("mlp", "digits", width=16, depth=1, epochs=2, batch_size=64, samples=4, output=path)
    return path


@pytest.mark.filterwarnings("ignore")
def test_a_run_comes_back_as_it_was(server: Any, run: Path, tmp_path: Path) -> None:
    assert bb.hub.push(run, "me/digits", api=server).endswith("me/digits")
    assert {"README.md", "config.toml", "checkpoint.safetensors", "evaluation.json"} <= set(Hub.files)
    back = bb.hub.pull("me/digits", tmp_path / "back", api=server)
    x = torch.rand(5, 1, 8, 8) * 16
    own, again = (bb.predict(bb.training.load_run(path)[0], x, 4).probs for path in (run, back))
    assert torch.equal(own, again)
    with pytest.raises(UserError, match="back is not an empty folder"):
        bb.hub.pull("me/digits", back, api=server)
    Hub.files.pop("config.toml")
    with pytest.raises(UserError, match="me/digits holds no run of bayesbinn"):
        bb.hub.pull("me/digits", tmp_path / "other", api=server)


def test_the_card_holds_the_figures_of_the_run_and_no_others(run: Path, tmp_path: Path) -> None:
    card = bb.hub.model_card(run)
    result = json.loads((run / "evaluation.json").read_text())
    assert f"{result['mode']['accuracy']:.2%}" in card
    assert f"{result['mean']['nll']:.4f}" in card
    assert 'data = "digits"' in card
    assert card.startswith("---\nlibrary_name: bayesbinn\n")
    with pytest.raises(UserError, match=r"is no finished run \(config.toml is missing\)"):
        bb.hub.model_card(tmp_path)
