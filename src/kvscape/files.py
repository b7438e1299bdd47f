"""Files and folders that appear whole or not at all: written under a temporary name, then renamed."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from kvscape.errors import KvscapeError


def _parent(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from error
    return path.parent


def _cannot_write(path: Path, error: OSError) -> KvscapeError:
    return KvscapeError(f"cannot write {path}", error.strerror or str(error), "choose a folder that can be written")


def check_writable(path: Path) -> None:
    """Make the folder of ``path``; raise KvscapeError now where nothing could be written there after hours of work."""
    try:
        with tempfile.TemporaryFile(dir=_parent(path)):
            pass
    except OSError as error:
        raise _cannot_write(path, error) from error


@contextmanager
def written_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to ``path`` when the block succeeds, remove it otherwise."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=_parent(path))
    except OSError as error:
        raise _cannot_write(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def written_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder; rename it to ``path`` (replacing an old one) when the block succeeds."""
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=_parent(path)))
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def resumed_folder(path: Path) -> Iterator[Path]:
    """Yield ``partial_folder(path)``, with what an interrupted block left in it; rename it when the block succeeds."""
    partial = partial_folder(path)
    _parent(path)
    try:
        partial.mkdir(exist_ok=True)
        yield partial
        if path.exists():
            shutil.rmtree(path)
        partial.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error


def partial_folder(path: Path) -> Path:
    """Where ``resumed_folder`` collects what becomes ``path``."""
    return path.parent / f".{path.name}.partial"


def remove_leftovers(path: Path) -> None:
    """Remove what a killed process left of ``path``; call it only where no other process can be writing it."""
    for left in path.parent.glob(f".{escape(path.name)}.*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file by rename."""
    with written_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
