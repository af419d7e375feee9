"""The page of a network in headless Chromium: digits drawn with the pointer, pictures dropped, what it asks for.

    python benchmarks/web_page.py runs/mnist --output benchmarks/results/web_page.json     # some minutes
    python benchmarks/web_page.py --table benchmarks/results/web_page.json                 # prints the stored result

Needs chromium and chromedriver, `pip install selenium`, and mnist.npz and fashion-mnist.npz in $BAYESBINN_DATA.  A
digit is drawn as pointer events along the thinned lines of an image of MNIST's test set, with the page's own pen.
"""

import argparse
import base64
import io
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from numpy.typing import NDArray

from bayesbinn.data import load_data
from bayesbinn.metrics import auroc
from bayesbinn.runtime import load

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
FINER, TOLERANCE = 4, 1e-6  # pixels of the thinned image for one of the network's
READ = """
const level = document.getElementById("verdict").dataset.level, answer = document.getElementById("answer");
const numbers = (css) => [...answer.querySelectorAll(css)].map((found) => Number(found.title));
const seen = document.getElementById("seen"), size = [seen.width, seen.height];
const pixels = seen.getContext("2d").getImageData(0, 0, ...size).data;
const found = { level, text: document.getElementById("verdict").innerText, probs: numbers("td.number"),
  nats: numbers("#uncertainty span"), seen: Array.from(pixels).filter((_, i) => i % 4 === 0) };
"""
DRAW = (
    """
const [strokes] = arguments, paper = document.getElementById("paper"), box = paper.getBoundingClientRect();
[...document.querySelectorAll("button")].find((b) => b.textContent === "Clear").click();
const send = (type, [x, y]) => paper.dispatchEvent(new PointerEvent(type, { pointerId: 7, button: 0, bubbles: true,
  clientX: box.left + x * box.width, clientY: box.top + y * box.height }));
for (const stroke of strokes) {
  send("pointerdown", stroke[0]);
  for (const point of stroke.slice(1)) send("pointermove", point);
  send("pointerup", stroke.at(-1));
}
"""
    + READ
    + "return found;"
)
DROP = (
    """
const [picture, done] = arguments, bytes = Uint8Array.from(atob(picture), (c) => c.charCodeAt(0));
const dropped = new DataTransfer();
dropped.items.add(new File([bytes], "picture.png", { type: "image/png" }));
new MutationObserver((_, observer) => { observer.disconnect(); setTimeout(() => { """
    + READ
    + """ done(found); }); }).observe(document.getElementById("verdict"), { childList: true });
document.dispatchEvent(new DragEvent("drop", { dataTransfer: dropped, bubbles: true, cancelable: true }));
"""
)


@contextmanager
def browser(width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Any]:
    """A headless Chromium with logs of its console and its requests.

    Raises:
        ImportError: without selenium; FileNotFoundError: without chromium and its driver.
    """
    from selenium import webdriver

    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        raise FileNotFoundError("needs chromium and chromedriver")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = program
        for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            sizes = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
            found.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            found.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
            yield found
        finally:
            found.quit()


def open_page(driver: Any, page: Path) -> None:
    """Open the file and wait until its network is loaded."""
    driver.get("about:blank")
    for log in ("performance", "browser"):
        driver.get_log(log)  # of the browser's own first page
    driver.get(page.resolve().as_uri())
    driver.execute_async_script(
        "const [done] = arguments, wait = () => document.getElementById('input').children.length ||"
        "document.querySelector('.error') ? done() : setTimeout(wait, 20); wait();"
    )


def asked(driver: Any, page: Path) -> list[str]:
    """Addresses that the page asked for, beside itself and what it holds; and everything on its console."""
    own = page.resolve().as_uri()
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    told = [entry["message"] for entry in driver.get_log("browser")]
    return [url for url in urls if url != own and not url.startswith(("data:", "blob:"))] + told


def screenshot(driver: Any, path: Path) -> None:
    found = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png"})
    path.write_bytes(base64.b64decode(found["data"]))


def png(image: NDArray[np.uint8]) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


def strokes(image: NDArray[np.uint8]) -> list[list[tuple[float, float]]]:
    """Lines along the middle of what is bright in (H, W), each a list of (x, y) in 0 to 1."""
    from PIL import Image

    height, width = image.shape
    fine = Image.fromarray(image).resize((width * FINER, height * FINER), Image.Resampling.BICUBIC)
    left = {(int(y), int(x)) for y, x in np.argwhere(thinned(np.asarray(fine) > 110))}
    around = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x]
    around.sort(key=lambda step: abs(step[0]) + abs(step[1]))
    lines = []
    while left:
        ends = [p for p in left if sum((p[0] + y, p[1] + x) in left for y, x in around) <= 1]
        point: tuple[int, int] | None = min(ends or left)
        line: list[tuple[int, int]] = []
        while point is not None:
            line.append(point)
            left.discard(point)
            near = ((line[-1][0] + y, line[-1][1] + x) for y, x in around)
            point = next((p for p in near if p in left), None)
        if len(line) > FINER or not lines:
            lines.append(line)
    scale = [((x + 0.5) / (width * FINER), (y + 0.5) / (height * FINER)) for line in lines for y, x in line]
    found, at = [], 0
    for line in lines:
        points = scale[at : at + len(line)]
        found.append([*points[:: FINER // 2], points[-1]])
        at += len(line)
    return found


def thinned(on: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Lines of one pixel's width (Zhang and Suen, 1984)."""
    on = np.pad(on, 1)
    changed = True
    while changed:
        changed = False
        for first in (True, False):
            p = [
                np.roll(on, shift, (0, 1))
                for shift in ((1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1))
            ]
            count = np.sum(p, axis=0)
            turns = np.sum([~a & b for a, b in zip(p, [*p[1:], p[0]], strict=True)], axis=0)
            north, east, south, west = p[0], p[2], p[4], p[6]
            sides = (
                ~(north & east & south) & ~(east & south & west)
                if first
                else ~(north & east & west) & ~(north & south & west)
            )
            gone = on & (count >= 2) & (count <= 6) & (turns == 1) & sides
            changed |= bool(gone.any())
            on = on & ~gone
    return on[1:-1, 1:-1]


def difference(found: dict[str, Any], network: Any) -> float:
    """Largest difference between the probabilities on the page and the runtime's for the pixels that the page read."""
    x = np.array(found["seen"], np.float32).reshape(1, *network.program.input_shape)
    return float(np.abs(network.predict(x)[0] - found["probs"]).max())


def measure(page: Path, raw: Path, count: int) -> dict[str, Any]:
    network = load(raw)
    digits, clothes = load_data("mnist"), load_data("fashion-mnist")
    images = digits.test.x[:count, 0].numpy().astype(np.uint8)
    others = clothes.test.x[:count, 0].numpy().astype(np.uint8)
    with browser() as driver:
        open_page(driver, page)
        drawn = [driver.execute_script(DRAW, strokes(image)) for image in images]
        dropped = [driver.execute_async_script(DROP, png(image)) for image in images]
        strange = [driver.execute_async_script(DROP, png(image)) for image in others]
        said = asked(driver, page)
    labels = digits.test.y[:count].tolist()
    x = np.concatenate([images, others])[:, None].astype(np.float32)
    python = network.predict_uncertainty(x)
    assert all(np.array_equal(found["seen"], own.ravel()) for found, own in zip(dropped + strange, x, strict=True))

    def right(found: list[dict[str, Any]]) -> float:
        return float(np.mean([np.argmax(f["probs"]) == label for f, label in zip(found, labels, strict=True)]))

    def areas(index: int, scores: NDArray[np.float64]) -> list[float]:
        page = torch.tensor([f["nats"][index] for f in dropped + strange], dtype=torch.float64)
        return [auroc(values[:count], values[count:]) for values in (page, torch.from_numpy(scores))]

    return {
        "images": count,
        "page_bytes": page.stat().st_size,
        "file_bytes": raw.stat().st_size,
        "drawn": right(drawn),
        "dropped": right(dropped),
        "difference": max(difference(found, network) for found in drawn + dropped + strange),
        "levels": {
            name: {level: sum(f["level"] == level for f in found) for level in ("sure", "unsure", "unseen")}
            for name, found in (("drawn", drawn), ("MNIST, dropped", dropped), ("Fashion-MNIST, dropped", strange))
        },
        "auroc": {
            "entropy": areas(0, python.entropy),
            "mutual information": areas(1, python.mutual_information),
        },
        "console_and_requests": said,
    }


def table(result: dict[str, Any]) -> str:
    """A stored result as Markdown."""
    r = result["measured"]
    lines = [
        f"{result['browser']}, headless, the page opened from disk; {result['date']}; `{result['command']}`.",
        "",
        "| | |",
        "|---|--:|",
        f"| digits drawn along the lines of {r['images']} MNIST test images, recognised | {100 * r['drawn']:.1f} % |",
        f"| the same {r['images']} images dropped as files | {100 * r['dropped']:.1f} % |",
        f"| largest difference of a probability from the Python runtime's | {r['difference']:.1e} |",
    ]
    for name, levels in r["levels"].items():
        lines.append(f"| {name}: sure, unsure, never seen this | {', '.join(str(n) for n in levels.values())} |")
    for name, (own, python) in r["auroc"].items():
        lines.append(f"| AUROC of {name}, Fashion-MNIST against MNIST: page, Python | {own:.4f}, {python:.4f} |")
    lines += [
        f"| bytes of the page; of the `.bbnn` file in it | {r['page_bytes']:,}; {r['file_bytes']:,} |",
        f"| lines on the console, requests | {len(r['console_and_requests'])} |",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="a run on mnist; it is exported to a temporary folder")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(arguments.table.read_text())))
        return
    with tempfile.TemporaryDirectory() as folder:
        export = [
            sys.executable,
            "-m",
            "bayesbinn",
            "export",
            str(arguments.run),
            "--format",
            "web",
            "--output",
            folder,
        ]
        subprocess.run(export, check=True)
        measured = measure(Path(folder) / "index.html", Path(folder) / "network.bbnn", arguments.count)
    version = subprocess.run(
        ["chromium", "--version", "--no-sandbox"], capture_output=True, text=True, check=True
    ).stdout
    config = (arguments.run / "config.toml").read_text()
    result = {
        "command": "python benchmarks/web_page.py runs/mnist --output benchmarks/results/web_page.json",
        "run": config,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "browser": " ".join(version.split()[:2]),
        "measured": measured,
    }
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
