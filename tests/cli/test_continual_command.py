"""`bayesbinn continual`: lines, files, exit status."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bayesbinn.cli import main
from bayesbinn.training.strategies import STRATEGIES

SMALL = ["--tasks", "2", "--epochs", "1", "--batch-size", "128", "--width", "16", "--samples", "2"]


def call(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["continual", *words])
    return result.exit_code, result.output


def test_a_run_prints_a_line_per_task_and_writes_its_files(tmp_path: Path) -> None:
    run = tmp_path / "run"
    status, text = call("permuted-digits", *SMALL, "--output", str(run), "--ood", "digits")
    assert status == 0, text
    assert text.count("task 1/2  accuracy") == text.count("task 2/2  accuracy") == 1
    assert "OOD AUROC" in text
    assert "forgetting" in text
    assert {"config.toml", "checkpoint.safetensors", "metrics.jsonl", "results.json"} <= {f.name for f in run.iterdir()}
    again, _ = call("permuted-digits", *SMALL, "--output", str(run))
    assert again == 2
    status, text = call("--output", str(run), "--resume")
    assert status == 0
    assert "forgetting" in text


@pytest.mark.parametrize("count", ["1", "4", "9"])
def test_rows_of_the_latest_tasks_end_as_well(tmp_path: Path, count: str) -> None:
    run = tmp_path / "run"
    status, text = call("permuted-digits", *SMALL, "--tasks", "4", "--row-tasks", count, "--output", str(run))
    assert status == 0, text
    assert "when learned" in text
    assert ("forgetting" in text) == (count != "1")
    assert (run / "report.html").exists()


def test_the_report_shows_every_task(tmp_path: Path) -> None:
    status, text = call(
        "split-digits", *SMALL, "--tasks", "5", "--strategy", "naive", "--output", str(tmp_path / "run")
    )
    assert status == 0, text
    assert text.endswith("results.json, report.html\n")
    page = (tmp_path / "run/report.html").read_text()
    result = json.loads((tmp_path / "run/results.json").read_text())
    assert "<h1>run</h1>" in page
    assert all(f"<td>{value:.3f}</td>" in page for value in result["matrix"][4])


def test_settings_can_be_printed_and_read_back(tmp_path: Path) -> None:
    status, recipe = call("rotated-digits", "--strategy", "palimpsest", "--window", "500", "--print-config")
    assert status == 0
    (tmp_path / "recipe.toml").write_text(recipe)
    assert call("--config", str(tmp_path / "recipe.toml"), "--print-config") == (0, recipe)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["split-digits", "--tasks", "6"], "error: split-digits: 6 tasks need 12 classes"),
        (["permuted-digits", "--strategy", "replay", "--buffer", "999999"], "is larger than the data"),
        (["permuted-digits", "--strategy", "bayes"], "error: unknown strategy 'bayes'"),
    ],
)
def test_errors_are_one_sentence_and_status_2(tmp_path: Path, words: list[str], why: str) -> None:
    status, text = call(*words, "--output", str(tmp_path / "run"))
    assert status == 2
    assert why in text
    assert text.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_help_names_every_strategy_and_real_defaults() -> None:
    status, text = call("--help")
    assert status == 0
    for name in STRATEGIES:
        assert f"  {name} " in text
    words = " ".join(text.split())
    assert "[default: 0.4; bayesbinn-2020, palimpsest: 1.0]" in words  # kl_weight
    assert "--strength" in text.partition("Options of strategies:")[2].partition("\n\n")[0]
    assert "the strategy's" not in words


def test_quiet_prints_nothing(tmp_path: Path) -> None:
    assert call("permuted-digits", *SMALL, "-q", "--output", str(tmp_path / "run")) == (0, "")
    assert (tmp_path / "run/results.json").exists()


def test_what_other_commands_do_with_a_run_of_a_stream(tmp_path: Path) -> None:
    def other(*words: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(main, [*words])
        return result.exit_code, result.stdout, result.stderr

    run, own, inputs = str(tmp_path / "run"), str(tmp_path / "own"), str(tmp_path / "x.npy")
    np.save(inputs, np.zeros((2, 8, 8)))
    assert call("permuted-digits", *SMALL, "-q", "--output", run)[0] == 0
    status, text, _ = other("inspect", run)
    assert status == 0
    assert "mlp for permuted-digits, trained with bayesbinn" in text
    status, text, notes = other("predict", run, inputs)
    assert status == 0
    assert len(text.splitlines()) == 3
    assert notes == "note: inputs are taken as they are, permuted-digits permutes them\n"
    assert other("export", run)[0] == 0
    assert (tmp_path / "run.bbnn").exists()
    status, _, text = other("evaluate", run)
    assert (status, text.count("\n")) == (2, 1)
    assert f"{run} learned task after task, and was measured then: see results.json and report.html there" in text

    heads = ("--head", "multi", "--statistics", "task", "--strategy", "naive")
    assert call("split-digits", *SMALL, *heads, "-q", "--output", own)[0] == 0
    assert other("inspect", own)[0] == 0
    for words in (("predict", own, inputs), ("export", own)):
        status, _, text = other(*words)
        assert (status, text.count("\n")) == (2, 1)
        assert f"{own} has outputs and statistics of its own for each task, and no task is named here" in text
