"""The tables of docs/anywhere.md from the stored results: python benchmarks/anywhere_page.py"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import mcu, mcu_peer, wasm, web_page  # noqa: E402

RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "anywhere.md"
BLOCKS = {"page": ("web_page", web_page.table), "wasm": ("wasm", wasm.table), "mcu": ("mcu", mcu.table),
          "peer": ("mcu_peer", mcu_peer.table)}  # fmt: skip


def render(page: str) -> str:
    """The page with each block between its two comments made anew."""
    for name, (stored, table) in BLOCKS.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        text = table(json.loads((RESULTS / f"{stored}.json").read_text()))
        block = f"{begin}\n\n{text}\n\n{end}"
        page, count = re.subn(f"{begin}.*?{end}", lambda _, block=block: block, page, flags=re.S)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"the page needs one block between {begin} and {end}, found {count}")
    return page


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text()))
