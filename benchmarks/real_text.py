"""Collects a few hundred megabytes of real text from Debian's packages, as raw files of several kinds.

    python -m benchmarks.real_text --output runs/real-text --megabytes 220

Needs a Debian with `apt-get`; nothing is installed. What lands in OUTPUT, a directory for each source: the kernel's,
Python's and Perl's documentation and a book as text files, two dictionaries and WordNet as JSON lines, the descriptions
of all packages as CSV, Rust's documentation as JSON lines until the size is reached. Their licences differ: look at
`/usr/share/doc/*/copyright` of each package before you pass anything on.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import orjson

PACKAGES = (
    "linux-doc-6.1", "python3.11-doc", "perl-doc", "anarchism", "dict-gcide", "dict-foldoc", "wordnet-base", "rust-doc",
)  # fmt: skip
FILES = {
    "kernel": ("linux-doc-6.1", ("*.rst.gz", "*.yaml.gz", "*.txt.gz")),
    "python": ("python3.11-doc", ("*.rst.txt",)),
    "perl": ("perl-doc", ("*.pod",)),
    "book": ("anarchism", ("*.gz",)),
}


def main() -> None:
    """Collect everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--megabytes", type=float, default=220, help="text in all; Rust's documentation fills it up")
    arguments = parser.parse_args()
    output = arguments.output
    output.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="real-text-") as directory:
        root = Path(directory)
        unpacked = unpack(root)
        sizes = {name: copy_files(unpacked[package], kinds, output / name) for name, (package, kinds) in FILES.items()}
        for name, package in (("gcide", "dict-gcide"), ("foldoc", "dict-foldoc")):
            sizes[name] = write_lines(output / name, dictionary(next(unpacked[package].rglob("*.dict.dz"))))
        sizes["wordnet"] = write_lines(output / "wordnet", wordnet(unpacked["wordnet-base"]))
        sizes["descriptions"] = write_csv(output / "descriptions", descriptions(root / "lists"))
        left = arguments.megabytes * 1e6 - sum(sizes.values())
        sizes["rust"] = write_lines(output / "rust", html_texts(unpacked["rust-doc"]), left)
    for name, size in sizes.items():
        print(f"{name:<14}{size / 1e6:>8.1f} MB")
    print(f"{'all':<14}{sum(sizes.values()) / 1e6:>8.1f} MB in {output}")


def unpack(root: Path) -> dict[str, Path]:
    """Download and unpack the packages; returns their directories by name."""
    subprocess.run(["apt-get", "-qq", "download", *PACKAGES], cwd=root, check=True, stderr=subprocess.DEVNULL)
    unpacked = {}
    for file in sorted(root.glob("*.deb")):
        unpacked[file.name.split("_")[0]] = target = root / file.name.split("_")[0]
        subprocess.run(["dpkg-deb", "-x", str(file), str(target)], check=True)
    return unpacked


def copy_files(source: Path, patterns: tuple[str, ...], target: Path) -> int:
    """Copy text files under names of their own, `.txt` or `.txt.gz`; returns the bytes of text."""
    target.mkdir()
    size = 0
    for pattern in patterns:
        for file in sorted(path for path in source.rglob(pattern) if path.is_file() and not path.is_symlink()):
            name = "_".join(file.relative_to(source).parts[3:]).removesuffix(".gz").removesuffix(".txt")
            packed = file.suffix == ".gz"
            size += len(gzip.decompress(file.read_bytes())) if packed else file.stat().st_size
            shutil.copyfile(file, target / f"{name}.txt{'.gz' if packed else ''}")
    return size


def write_lines(target: Path, texts: Iterator[str], limit_bytes: float = float("inf")) -> int:
    """Write texts as JSON lines, until there are `limit_bytes` of them; returns the bytes of text."""
    target.mkdir()
    size = 0
    with gzip.open(target / f"{target.name}.jsonl.gz", "wb", compresslevel=3) as stream:
        for number, text in enumerate(texts):
            if size >= limit_bytes:
                break
            stream.write(orjson.dumps({"text": text, "id": f"{target.name}-{number}"}) + b"\n")
            size += len(text.encode())
    return size


def write_csv(target: Path, rows: Iterator[tuple[str, str]]) -> int:
    """Write identities and texts as CSV; returns the bytes of text."""
    target.mkdir()
    size = 0
    with (target / f"{target.name}.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "text"])
        for identity, text in rows:
            writer.writerow([identity, text])
            size += len(text.encode())
    return size


def dictionary(file: Path) -> Iterator[str]:
    """The entries of a dictd dictionary, some to a document as they stand on a page."""
    text = gzip.decompress(file.read_bytes()).decode("utf-8", "replace")
    page: list[str] = []
    for entry in text.split("\n\n"):
        page.append(entry)
        if sum(map(len, page)) > 1500:
            yield "\n\n".join(page)
            page = []


def wordnet(root: Path) -> Iterator[str]:
    """Words with their glosses, forty to a document."""
    for file in sorted(root.rglob("data.*")):
        page: list[str] = []
        for line in file.read_text("utf-8").splitlines():
            head, found, gloss = line.partition(" | ")
            if found:
                page.append(f"{head.split()[4].replace('_', ' ')}: {gloss.strip()}")
            if len(page) == 40:
                yield "\n".join(page)
                page = []


def descriptions(lists: Path) -> Iterator[tuple[str, str]]:
    """Names and English descriptions of all packages, from lists of our own: the system's stay as they are."""
    (lists / "partial").mkdir(parents=True)
    options = ["-o", f"Dir::State::lists={lists}", "-o", "Acquire::Languages=en", "-o", "Acquire::GzipIndexes=false"]
    subprocess.run(["apt-get", "-qq", *options, "update"], check=True, stderr=subprocess.DEVNULL)
    for file in sorted(lists.glob("*Translation-en")):
        for paragraph in file.read_text("utf-8").split("\n\n"):
            lines = paragraph.splitlines()
            name = next((line[9:] for line in lines if line.startswith("Package: ")), None)
            start = next((at for at, line in enumerate(lines) if line.startswith("Description-en: ")), None)
            if name and start is not None:
                text = [lines[start][16:], *(line[1:].replace(".", "", line == " .") for line in lines[start + 1 :])]
                yield name, "\n".join(text)


def html_texts(root: Path) -> Iterator[str]:
    """The text of web pages, all of it."""
    import lxml.html

    for file in sorted(root.rglob("*.html")):
        try:
            tree = lxml.html.fromstring(file.read_bytes())
        except (ValueError, lxml.etree.LxmlError):
            continue
        for element in list(tree.iter("script", "style", "nav")):
            element.drop_tree()
        text = "\n".join(line.strip() for line in tree.text_content().splitlines() if line.strip())
        if text:
            yield text


if __name__ == "__main__":
    main()
