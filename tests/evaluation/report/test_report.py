"""The report of real runs: what it must hold, without a browser and in one."""

import dataclasses
import html.parser
import json
import re
import shutil
import subprocess

import pytest

from bayesbinn.data import load_data
from bayesbinn.evaluation.ood import ood_inputs
from bayesbinn.evaluation.report import write_report
from bayesbinn.evaluation.scores import evaluate_voters
from bayesbinn.evaluation.voters import make_voters
from bayesbinn.training import load_run, train
from tests.runs import TINY, blobs_file

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECTIONS = ["result", "training", "calibration", "samples", "selective", "outside", "corruptions", "weights"]

# runs before anything on the page, and leaves what it saw in the document
PROBE = """<script>
const seen = {errors: [], blocked: []};
addEventListener("error", e => seen.errors.push(String(e.message || e.target.outerHTML)), true);
addEventListener("securitypolicyviolation", e => seen.blocked.push(e.blockedURI + " " + e.violatedDirective));
addEventListener("load", () => setTimeout(() => {
  seen.requests = performance.getEntriesByType("resource").map(r => r.name).filter(n => !n.startsWith("data:"));
  seen.images = [...document.images].map(i => i.complete && i.naturalWidth > 0);
  seen.charts = [...document.querySelectorAll("figure > svg")].map(s => s.getBoundingClientRect().height > 100);
  seen.overflow = document.documentElement.scrollWidth - innerWidth;
  seen.background = getComputedStyle(document.body).backgroundColor;
  const out = document.createElement("script");
  out.type = "application/json"; out.id = "seen"; out.textContent = JSON.stringify(seen);
  document.body.append(out);
}, 0));
</script>"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of a small run with everything in it."""
    run = tmp_path_factory.mktemp("report") / "a <run>"
    train({**TINY, "data": "digits", "epochs": 2}, run)
    first = (run / "report.html").read_text(encoding="utf-8")
    net, config, _ = load_run(run)
    data = load_data("digits")
    outside = {"noise": ood_inputs("noise", data)}
    result = evaluate_voters(make_voters([net], 4), data.test, ood=outside, corruptions=True)
    write_report(run / "report.html", [run], net, dataclasses.asdict(config), data.test.x, result)
    return run / "report.html", result, first


class Outline(html.parser.HTMLParser):
    """Tags with their attributes, in order; fails on unbalanced ones."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_it_holds_what_it_promises(report):
    path, result, first = report
    text = path.read_text(encoding="utf-8")
    outline = Outline(text)
    assert [a["id"] for t, a in outline.tags if t == "section"] == [*SECTIONS, "examples", "made"]
    plain = [name for name in (*SECTIONS, "examples", "made") if name != "corruptions"]
    assert [a["id"] for t, a in Outline(first).tags if t == "section"] == plain
    for number in (f"{result['mean']['nll']:.4f}", f"{result['ood']['noise']['mean']['entropy']['auroc']:.4f}"):
        assert number in text
    assert "Layer 3" in text
    assert "saturated" in text
    assert "<title>a &lt;run&gt;" in text
    assert not list(path.parent.glob(".report*"))  # nothing half-written stays


def test_nothing_is_fetched_and_everything_is_said_in_words(report):
    outline = Outline(report[0].read_text(encoding="utf-8"))
    for tag, attributes in outline.tags:
        assert tag not in ("script", "iframe", "object", "video", "style") or tag == "style"
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith(("data:", "#"))
        if tag == "img":
            assert re.match(r"Test image \d+, labelled \d, predicted \d at \d+ %", attributes["alt"])
    charts = [a for t, a in outline.tags if t == "svg" and a.get("role") == "img"]
    assert len(charts) >= 14
    assert all(re.search(r"\. .*\d", a["aria-label"]) for a in charts)  # a title and figures
    assert sum(t == "img" for t, _ in outline.tags) == 12


@pytest.mark.parametrize(("method", "shape"), [("ste", (8, 8)), ("float", (8,))])
def test_a_run_without_a_posterior_and_inputs_that_are_no_images(tmp_path, method, shape):
    data = blobs_file(tmp_path / "data.npz", shape=shape)
    train({**TINY, "data": data, "epochs": 1, "method": method}, tmp_path / "run")
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    sections = [a["id"] for t, a in Outline(text).tags if t == "section"]
    assert "weights" not in sections
    assert "samples" not in sections
    assert "No posterior samples" in text
    assert ("<img" in text) == (len(shape) == 2)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: install it to check the report in a browser")
@pytest.mark.parametrize(("width", "dark"), [(500, True), (1280, False)])
def test_in_a_browser(report, tmp_path, width, dark):
    page = tmp_path / "probed.html"
    text = report[0].read_text(encoding="utf-8")
    page.write_text(text.replace('<meta charset="utf-8">', '<meta charset="utf-8">' + PROBE, 1), encoding="utf-8")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    options += [f"--user-data-dir={tmp_path}/profile", f"--window-size={width},900", "--enable-logging=stderr"]
    options += ["--blink-settings=preferredColorScheme=" + ("0" if dark else "1")]
    run = subprocess.run(
        [CHROMIUM, *options, "--virtual-time-budget=5000", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r'<script type="application/json" id="seen">(.*?)</script>', run.stdout, re.S)
    assert found is not None, run.stderr[-2000:]
    seen = json.loads(found.group(1))
    assert (seen["errors"], seen["blocked"], seen["requests"]) == ([], [], [])
    assert "CONSOLE" not in run.stderr
    assert len(seen["images"]) == 12
    assert all(seen["images"])
    assert len(seen["charts"]) >= 14
    assert all(seen["charts"])
    assert seen["overflow"] <= 0  # nothing sticks out to the side
    assert seen["background"] == ("rgb(21, 22, 26)" if dark else "rgb(246, 246, 243)")
