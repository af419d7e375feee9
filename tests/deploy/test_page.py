"""docs/inference.md is what its generator writes."""

from benchmarks import page


def test_the_page_is_as_its_generator_writes_it() -> None:
    assert page.PAGE.read_text() == page.page(page.load_results())


def test_a_missed_promise_and_a_faster_rival_are_told() -> None:
    slow = {"onnxruntime float32": 10.0, "onnxruntime 2-bit": 2.0, "ours int8": 4.0}
    told = page.losses("1", {"linear 4096², batch 1": {"microseconds": slow}})
    assert told[0] == "- linear 4096², batch 1, threads: 1: 2.50× against onnxruntime float32, 15× wanted."
    assert told[-1].endswith("int8 is slower than onnxruntime 2-bit (low-bit, 2.0× as fast).")
