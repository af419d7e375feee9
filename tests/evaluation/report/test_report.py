"""The reports of real runs, of a run and of a stream: what they must hold, without a browser and in one."""

import dataclasses
import html
import html.parser
import json
import math
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from bayesbinn import predict
from bayesbinn.data import load_data
from bayesbinn.evaluation.ood import ood_inputs
from bayesbinn.evaluation.report import Page, run_page, stream_page, write_report
from bayesbinn.evaluation.report.classes import classes
from bayesbinn.evaluation.report.page import render
from bayesbinn.evaluation.scores import evaluate_voters
from bayesbinn.evaluation.voters import make_voters
from bayesbinn.training import load_run, train
from bayesbinn.training.continual import train_continual
from tests.runs import TINY, blobs_file

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECTIONS = ["result", "training", "calibration", "samples", "selective", "outside", "corruptions", "weights"]
SECTIONS += ["classes", "confusion", "examples", "made"]
PHONE = 360

# inside the page: runs before anything else, and tells the frame around it what it saw
PROBE = """<script>
const seen = {errors: [], blocked: []};
addEventListener("error", e => seen.errors.push(String(e.message || e.target.outerHTML)), true);
addEventListener("securitypolicyviolation", e => seen.blocked.push(e.blockedURI + " " + e.violatedDirective));
addEventListener("load", () => {
  const charts = [...document.querySelectorAll("figure > svg")], box = e => e.getBoundingClientRect();
  seen.requests = performance.getEntriesByType("resource").map(r => r.name).filter(n => !n.startsWith("data:"));
  seen.images = [...document.images].map(i => i.complete && i.naturalWidth > 0);
  seen.bars = [...document.querySelectorAll(".bars")].map(b => box(b).height / (b.children.length / 3));
  seen.heights = charts.map(s => box(s).height);
  seen.text = charts.flatMap(s => [...s.querySelectorAll("text")].map(
    t => parseFloat(getComputedStyle(t).fontSize) * s.getScreenCTM().a));
  seen.cut = charts.flatMap(s => [...s.querySelectorAll("text")].filter(
    t => box(t).left < box(s).left - 1 || box(t).right > box(s).right + 1 || box(t).top < box(s).top - 1 ||
      box(t).bottom > box(s).bottom + 1).map(t => t.textContent));
  seen.overflow = document.documentElement.scrollWidth - innerWidth;
  seen.background = getComputedStyle(document.body).backgroundColor;
  parent.document.body.textContent = "SEEN" + JSON.stringify(seen) + "END";
});
</script>"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of a small run with everything in it: (path, what it shows, as it was after training)."""
    run = tmp_path_factory.mktemp("report") / "a <run>"
    train({**TINY, "data": "digits", "epochs": 2}, run)
    first = (run / "report.html").read_text(encoding="utf-8")
    net, config, _ = load_run(run)
    data = load_data("digits")
    outside = {"noise": ood_inputs("noise", data)[0]}
    result = evaluate_voters(make_voters([net], 4), data.test, ood=outside, corruptions=True)
    write_report(
        run / "report.html", run_page([run], net, dataclasses.asdict(config), data.test.x, result, data.classes)
    )
    return run / "report.html", result, first


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """The report of a small stream with everything in it: (path, what it shows)."""
    run = tmp_path_factory.mktemp("stream")
    settings = {"data": "permuted-digits", "tasks": 3, "epochs": 1, "width": 16, "samples": 2, "batch_size": 128}
    result = train_continual({**settings, "ood": "digits"}, run / "run")
    write_report(run / "report.html", stream_page(result, "a <stream>"))
    return run / "report.html", result


class Outline(html.parser.HTMLParser):
    """Tags with their attributes, and table cells by caption, in order; fails on unbalanced tags."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.tables, self.cells = [], [], {}, None
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "caption":
            self.cells = self.tables.setdefault(data, [])
        elif self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)

    @property
    def sections(self):
        return [attributes["id"] for tag, attributes in self.tags if tag == "section"]


def test_the_report_of_a_run_holds_what_it_promises(report):
    path, result, first = report
    text = path.read_text(encoding="utf-8")
    outline = Outline(text)
    assert outline.sections == SECTIONS
    assert Outline(first).sections == [name for name in SECTIONS if name != "corruptions"]
    shown = outline.tables["On 360 test examples"]
    for key, label in (("nll", "NLL (nats)"), ("ece", "ECE"), ("aurc", "AURC")):
        start = shown.index(label)
        assert shown[start + 1 : start + 3] == [f"{result[which][key]:.4f}" for which in ("mode", "mean")]
    assert f"{result['ood']['noise']['mean']['entropy']['auroc']:.4f}" in text
    assert "Layer 3" in text
    assert "saturated" in text
    assert "<title>a &lt;run&gt;" in text
    assert not list(path.parent.glob(".report*"))  # nothing half-written stays


def test_the_table_of_classes_and_the_matrix_count_the_predictions(report):
    path, result, _ = report
    net, *_ = load_run(path.parent)
    test = load_data("digits").test
    named = predict(net, test.x, 4).labels
    outline = Outline(path.read_text(encoding="utf-8"))
    matrix = outline.tables["Test examples: rows are labels, columns what they are taken for"][
        10:
    ]  # the first is empty
    for c in range(10):
        row = [int(((test.y == c) & (named == other)).sum()) for other in range(10)]
        assert matrix[11 * c : 11 * c + 11] == [str(c), *(str(n) if n else "·" for n in row)]
    expected = precision_recall_fscore_support(test.y, named, labels=range(10), zero_division=math.nan)
    shown = outline.tables["Every class"][6:]
    for c, (*shares, count) in enumerate(zip(*expected, strict=True)):
        cells = ["–" if math.isnan(share) else f"{share:.3f}" for share in shares]
        assert shown[6 * c : 6 * c + 5] == [str(c), *cells, str(count)]
    assert [sum(row) for row in result["figures"]["confusion"]] == torch.bincount(test.y).tolist()


@pytest.mark.parametrize("num_classes", [2, 5, 20])
def test_precision_recall_and_f1_are_those_of_scikit_learn(num_classes):
    rng = np.random.default_rng(num_classes)
    labels, named = rng.integers(0, num_classes, (2, 60))
    named[named == 1] = 0  # a class that is never named
    counts = confusion_matrix(labels, named, labels=range(num_classes)).tolist()
    table, matrix = classes({"figures": {"confusion": counts}}, [f"c{c}" for c in range(num_classes)])
    expected = precision_recall_fscore_support(labels, named, labels=range(num_classes), zero_division=math.nan)
    for row, (*shares, count) in zip(table.table.rows, zip(*expected, strict=True), strict=True):
        assert row[1:4] == ["–" if math.isnan(share) else f"{share:.3f}" for share in shares]
        assert row[4] == str(count)
    for c, (row, shades) in enumerate(zip(matrix.table.rows, matrix.table.shades, strict=True)):
        assert row[1:] == [str(n) if n else "·" for n in counts[c]]
        assert all((shade > 0) == (other == c) for other, shade in enumerate(shades) if shade)  # right, wrong
        assert sum(map(abs, shades)) == pytest.approx(float(any(counts[c])))


def test_of_many_classes_the_worst_and_the_most_frequent_confusions_are_shown():
    counts = [[0] * 30 for _ in range(30)]
    for c in range(29):
        counts[c][c], counts[c][(c + 1) % 30] = c, 29 - c
    names = [f"name {c}" for c in range(30)]
    table, pairs = classes({"figures": {"confusion": counts}}, names)
    assert table.table.caption == "The 20 of 30 classes of the lowest recall"
    assert table.table.rows[0] == ["name 0", "–", "0.000", "0.000", "29", "name 1 (29)"]
    assert len(table.table.rows) == 20
    assert pairs.table.caption == f"The 20 most frequent confusions, {sum(range(10, 30))} of {sum(range(30))}"
    assert pairs.table.rows[:2] == [["name 0", "name 1", "29", "1.000"], ["name 1", "name 2", "28", "0.966"]]
    assert len(pairs.table.rows) == 20
    right = [[int(c == other) for other in range(30)] for c in range(30)]
    assert [section.name for section in classes({"figures": {"confusion": right}}, names)] == ["classes"]


def test_the_matrix_has_the_names_as_text_and_its_colours():
    names = ["<b>cat</b> & co", "dog"]
    table, matrix = classes({"figures": {"confusion": [[3, 1], [0, 0]]}}, names)
    assert table.table.rows == [
        [names[0], "1.000", "0.750", "0.857", "4", "dog (1)"],
        ["dog", "0.000", "–", "0.000", "0", "–"],
    ]
    assert matrix.table.rows == [[names[0], "3", "1"], ["dog", "·", "·"]]
    text = render(Page("a", "", [], [table, matrix]))
    assert '<td class="shade" style="--share:75%">3</td>' in text
    assert '<td class="shade off" style="--share:25%">1</td>' in text
    assert "<b>" not in text
    cells = Outline(text).tables["Test examples: rows are labels, columns what they are taken for"]
    assert cells == [*names, names[0], "3", "1", "dog", "·", "·"]


def test_the_first_report_shows_the_numbers_of_evaluation_json(report):
    path, _, first = report
    stored = json.loads((path.parent / "evaluation.json").read_text(encoding="utf-8"))
    shown = Outline(first).tables["On 360 test examples"]
    for key, label in (("nll", "NLL (nats)"), ("brier", "Brier"), ("classwise_ece", "classwise ECE")):
        start = shown.index(label)
        assert shown[start + 1 : start + 3] == [f"{stored[which][key]:.4f}" for which in ("mode", "mean")]


def test_the_report_of_a_stream_holds_its_matrix_and_its_averages(stream):
    path, result = stream
    text = path.read_text(encoding="utf-8")
    outline = Outline(text)
    assert outline.sections == ["result", "tasks", "end", "made"]
    matrix = outline.tables["Every task after every task: accuracy on task"]
    assert matrix[4:] == [c for i, row in enumerate(result["matrix"], 1) for c in (str(i), *(f"{v:.3f}" for v in row))]
    shown = outline.tables["Accuracy and its history"]
    for label, key in (("mean, all tasks", "mean_average"), ("forgetting", "forgetting")):
        assert shown[shown.index(label) + 1] == f"{100 * result['metrics'][key]:.2f} %"
    assert f"{result['tasks'][-1]['ood_auroc']:.3f} after the last." in text
    assert "<title>a &lt;stream&gt;" in text


@pytest.mark.parametrize("kind", ["report", "stream"])
def test_nothing_is_fetched_and_everything_is_said_in_words(kind, request):
    text = request.getfixturevalue(kind)[0].read_text(encoding="utf-8")
    outline = Outline(text)
    assert "http" not in re.sub('http-equiv="', "", text)
    for tag, attributes in outline.tags:
        assert tag not in ("script", "iframe", "object", "video")
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "data:").startswith(("data:", "#"))
        if tag == "img":
            assert re.match(r"Test image \d+, labelled \d, predicted \d at \d+ %", attributes["alt"])
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    charts = [a for t, a in outline.tags if t == "svg" and a.get("role") == "img"]
    assert len(charts) == {"report": 16, "stream": 5}[kind]
    assert all(re.search(r"\. .*\d", a["aria-label"]) for a in charts)  # a title and figures
    assert sum(t == "img" for t, _ in outline.tags) == {"report": 12, "stream": 0}[kind]


@pytest.mark.parametrize(("method", "shape"), [("ste", (8, 8)), ("float", (8,))])
def test_a_run_without_a_posterior_and_inputs_that_are_no_images(tmp_path, method, shape):
    data = blobs_file(tmp_path / "data.npz", shape=shape)
    train({**TINY, "data": data, "epochs": 1, "method": method}, tmp_path / "run")
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    outline = Outline(text)
    assert "weights" not in outline.sections
    assert "samples" not in outline.sections
    assert "No posterior samples" in text
    assert ("<img" in text) == (len(shape) == 2)


def test_a_damaged_log_is_said_in_one_line_and_the_rest_is_shown(report, tmp_path):
    path, result, _ = report
    shutil.copytree(path.parent, tmp_path / "run")
    log = tmp_path / "run" / "metrics.jsonl"
    log.write_bytes(log.read_bytes()[:-30])  # the last of two lines is cut
    net, config, _ = load_run(tmp_path / "run")
    data = load_data("digits")
    page = run_page([tmp_path / "run"], net, dataclasses.asdict(config), data.test.x, result, data.classes)
    assert page.notes == [f"{log} is damaged: 1 of 2 lines cannot be read, the first is line 2; they are left out"]
    text = render(page)
    assert page.notes[0] in text
    assert "After epoch 1: " in text


def test_what_a_page_shows_is_text():
    text = render(Page("<script>", "{{ 1 }}", [("<b>", "1", "&")], [], ["<i>"]))
    assert "<script>" not in text
    assert "<i>" not in text
    assert "{{ 1 }}" in text
    Outline(text)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: install it to check the report in a browser")
@pytest.mark.parametrize(
    ("kind", "width", "dark"), [("report", PHONE, True), ("stream", PHONE, False), ("report", 1280, False)]
)
def test_in_a_browser(kind, width, dark, request, tmp_path):
    text = request.getfixturevalue(kind)[0].read_text(encoding="utf-8")
    inner = html.escape(text.replace('<meta charset="utf-8">', '<meta charset="utf-8">' + PROBE, 1))
    frame = tmp_path / "frame.html"  # a window may not be as narrow as a phone
    frame.write_text(f'<body><iframe srcdoc="{inner}" width="{width}" height="900" style="border:0"></iframe>', "utf-8")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    options += [f"--user-data-dir={tmp_path}/profile", "--window-size=1400,900", "--enable-logging=stderr"]
    options += ["--blink-settings=preferredColorScheme=" + ("0" if dark else "1")]
    run = subprocess.run(
        [CHROMIUM, *options, "--virtual-time-budget=5000", "--dump-dom", frame.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search("SEEN(.*)END", html.unescape(run.stdout))
    assert found is not None, run.stderr[-2000:]
    seen = json.loads(found.group(1))
    assert (seen["errors"], seen["blocked"], seen["requests"]) == ([], [], [])
    assert "CONSOLE" not in run.stderr
    assert len(seen["images"]) == {"report": 12, "stream": 0}[kind]
    assert all(seen["images"])
    assert len(seen["heights"]) == {"report": 16, "stream": 5}[kind]
    assert min(seen["heights"]) > 150
    assert max(seen["bars"], default=0) < 30  # px a class: name, bar and share stand in one line
    assert min(seen["text"]) >= 11  # px, readable on a phone
    assert seen["cut"] == []
    assert seen["overflow"] <= 0  # nothing sticks out to the side
    assert seen["background"] == ("rgb(21, 22, 26)" if dark else "rgb(246, 246, 243)")
