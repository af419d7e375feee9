"""What can be read of a file that is damaged."""

import json

import pytest

from bayesbinn.files import read_json_lines, update_json

WHOLE = b'{"epoch": 1, "nll": 0.5}\n'


@pytest.mark.parametrize(
    "damaged",
    [b'{"epoch": 2, "nl', b"{}\n", b"[1, 2]\n", b"\xff\x00\n", b"\n", b'{"epoch": 2, "n{"epoch": 3, "nll": 1}\n'],
)
def test_damaged_lines_are_left_out_and_counted(tmp_path, damaged):
    path = tmp_path / "log.jsonl"
    path.write_bytes(WHOLE + damaged)
    found, notes = read_json_lines(path, {"epoch", "nll"})
    assert found == [{"epoch": 1, "nll": 0.5}]
    assert notes == [f"{path} is damaged: 1 of 2 lines cannot be read, the first is line 2; they are left out"]


def test_a_whole_file_and_one_that_is_not_there_need_no_note(tmp_path):
    path = tmp_path / "log.jsonl"
    assert read_json_lines(path, {"epoch"}) == ([], [])
    path.write_bytes(2 * WHOLE)
    assert read_json_lines(path, {"epoch"}) == ([{"epoch": 1, "nll": 0.5}] * 2, [])


def test_parts_of_a_json_file_are_replaced_and_the_others_stay(tmp_path):
    path = tmp_path / "found.json"
    update_json(path, first={"a": 1})
    update_json(path, second=[2])
    update_json(path, first={"b": "μ"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"first": {"b": "μ"}, "second": [2]}
