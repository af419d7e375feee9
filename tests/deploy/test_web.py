"""The page of a network: what it holds, and what it does in a headless browser."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bayesbinn as bb
from bayesbinn.deploy.export_web import Page, fold, save_web, to_web
from benchmarks import web_page
from tests.deploy.nets import mlp, trained


def digits() -> tuple[bytes, np.ndarray]:
    """A network for pictures of 8 × 8 pixels, and such pictures."""
    torch.manual_seed(0)
    net = trained(nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)))
    x = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8)).astype(np.float32)
    return bb.deploy.pack(net, num_samples=3, input_shape=(1, 8, 8)), x


def test_the_folder_holds_the_page_the_module_and_the_file(tmp_path: Path) -> None:
    raw, x = digits()
    about = Page("A </script><b>&", ("a", "b", "<c>", "d"), examples=x)
    paths = save_web(raw, tmp_path / "web", about)
    assert {path.name for path in paths} == {"index.html", "bayesbinn.js", "bayesbinn.d.ts", "network.bbnn"}
    assert (tmp_path / "web" / "network.bbnn").read_bytes() == raw
    page = (tmp_path / "web" / "index.html").read_text()
    assert "<title>A &lt;/script&gt;&lt;b&gt;&amp;</title>" in page
    assert page.count("</script>") == page.count("<script") == 3
    assert "connect-src" not in page  # what default-src 'none' forbids
    assert "default-src 'none'" in page
    assert not re.search(r"@[A-Z]+@", page)
    assert not re.search(r"""(src|href)=["'](?!data:,)""", page)


def test_samples_are_stored_as_differences_from_the_mode() -> None:
    raw, _ = digits()
    folded = fold(raw)
    assert folded != raw
    assert fold(folded)[: len(raw) // 2] == raw[: len(raw) // 2]  # rows of the mode and the floats are as they were
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    (entry,) = (value for name, value in header.items() if name.startswith("0.") and value["dtype"] == "U8")
    (begin, end), shape = entry["data_offsets"], entry["shape"]
    rows, was = (np.frombuffer(r[start + begin : start + end], np.uint8).reshape(shape) for r in (folded, raw))
    assert np.array_equal(rows[1:] ^ rows[0], was[1:])


@pytest.mark.parametrize(
    ("about", "says"),
    [
        (Page(classes=("a", "b")), "page.classes has 2 names, the network 5"),
        (Page(features=("x",)), "page.features has 1 names, the network 20"),
        (Page(examples=np.zeros((1, 3), np.float32)), "page.examples"),
    ],
)
def test_what_does_not_fit_is_refused(about: Page, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        to_web(bb.deploy.pack(mlp()), about)


def test_a_network_without_classes_has_no_page() -> None:
    with pytest.raises(ValueError, match="two or more classes, this one's output is 9 × 26"):
        to_web(bb.deploy.pack(trained(nn.Sequential(nn.Conv1d(4, 9, 5))), input_shape=(4, 30)))
    with pytest.raises(ValueError, match="output is 1"):
        to_web(bb.deploy.pack(trained(nn.Sequential(nn.Linear(4, 1)))))


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    pytest.importorskip("selenium", reason="needs selenium")
    try:
        with web_page.browser() as found:
            yield found
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.slow
def test_pictures_in_a_browser(driver: Any, tmp_path: Path) -> None:
    """Dropped, drawn with the pointer and with the keyboard; the numbers are the runtime's; nothing is asked for."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    raw, x = digits()
    page = save_web(raw, tmp_path, Page("Digits", tuple("abcd"), examples=x, unseen=10.0))[0]
    web_page.open_page(driver, page)
    network = bb.runtime.load(raw)
    for picture in x:
        found = driver.execute_async_script(web_page.DROP, web_page.png(picture[0].astype(np.uint8)))
        assert np.array_equal(found["seen"], picture.ravel())
        assert web_page.difference(found, network) < web_page.TOLERANCE
        p = network.predict_uncertainty(picture[None])
        assert found["nats"] == pytest.approx([p.entropy[0], p.mutual_information[0]], abs=1e-6)
        assert found["level"] == ("sure" if p.probs.max() >= 0.8 else "unsure")
        assert found["text"].startswith("abcd"[int(p.labels[0])])
    found = driver.execute_script(web_page.DRAW, [[(0.3, 0.3), (0.6, 0.7)], [(0.2, 0.8)]])
    assert sum(found["seen"]) > 500
    assert web_page.difference(found, network) < web_page.TOLERANCE
    for button in driver.find_elements(By.CSS_SELECTOR, ".examples button"):
        button.click()
        found = driver.execute_script(web_page.READ + "return found;")
        assert web_page.difference(found, network) < web_page.TOLERANCE
    next(b for b in driver.find_elements(By.TAG_NAME, "button") if b.text == "Clear").click()
    assert not driver.find_element(By.ID, "answer").is_displayed()
    driver.find_element(By.ID, "paper").send_keys(" ", Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert "Pen down at column 6, row 5" in driver.find_element(By.ID, "paper-help").text
    found = driver.execute_script(web_page.READ + "return found;")
    assert sum(found["seen"]) > 500
    assert web_page.difference(found, network) < web_page.TOLERANCE
    broken = driver.execute_async_script(web_page.DROP, "bm90IGEgcGljdHVyZQ==")
    assert "picture.png is no picture" in broken["text"]
    assert web_page.asked(driver, page) == []


@pytest.mark.slow
def test_a_form_and_a_box_of_numbers_in_a_browser(driver: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    raw = bb.deploy.pack(mlp(), num_samples=2)
    x = np.linspace(-1, 1, 20, dtype=np.float32)
    expected = bb.runtime.load(raw).predict(x[None])[0]
    numbers = "return [...document.querySelectorAll('td.number')].map((cell) => Number(cell.title))"

    page = save_web(raw, tmp_path / "form", Page(features=tuple(f"size {i}" for i in range(20)), examples=x[None]))[0]
    web_page.open_page(driver, page)
    driver.find_element(By.CSS_SELECTOR, ".examples button").click()
    assert np.allclose(driver.execute_script(numbers), expected, atol=1e-6)
    field = driver.find_element(By.ID, "feature-3")
    field.send_keys(Keys.CONTROL + "a", Keys.BACKSPACE)
    assert "size 3 needs a number" in driver.find_element(By.ID, "verdict").text
    field.send_keys("0.5")
    changed = np.concatenate([x[:3], [np.float32(0.5)], x[4:]])[None]
    assert np.allclose(driver.execute_script(numbers), bb.runtime.load(raw).predict(changed)[0], atol=1e-6)
    unnamed = driver.execute_script(
        "return [...document.querySelectorAll('input, button, textarea, canvas')]"
        ".filter((e) => !(e.labels?.length || e.getAttribute('aria-label') || e.innerText)).length"
    )
    assert unnamed == 0
    assert web_page.asked(driver, page) == []

    page = save_web(raw, tmp_path / "numbers")[0]
    web_page.open_page(driver, page)
    box = driver.find_element(By.ID, "numbers")
    box.send_keys("1, 2 3")
    assert "20 numbers are needed, these are 3" in driver.find_element(By.ID, "verdict").text
    box.send_keys(" four")
    assert "“four” is no number" in driver.find_element(By.ID, "verdict").text
    box.clear()
    box.send_keys(" ".join(map(str, x.tolist())))
    assert np.allclose(driver.execute_script(numbers), expected, atol=1e-6)
    assert web_page.asked(driver, page) == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(width: int, tmp_path: Path) -> None:
    pytest.importorskip("selenium", reason="needs selenium")
    raw, x = digits()
    names = ("a very long name of a class that goes on and on", "Donaudampfschifffahrtsgesellschaft" * 3, "c", "d")
    page = save_web(raw, tmp_path, Page("Long names " * 12, names, examples=x))[0]
    try:
        with web_page.browser(width, 800, dark=width == 390) as driver:
            web_page.open_page(driver, page)
            driver.execute_async_script(web_page.DROP, web_page.png(x[0, 0].astype(np.uint8)))
            sizes = "return [document.documentElement.scrollWidth, innerWidth, getComputedStyle(document.body).color]"
            scroll, inner, colour = driver.execute_script(sizes)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert scroll <= inner
    assert colour == ("rgb(236, 235, 230)" if width == 390 else "rgb(28, 29, 34)")
