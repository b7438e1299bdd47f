"""The wheel is whole: installed into an environment that has never seen the sources, it runs."""

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def kvscape_of_the_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of a fresh environment; the wheel's dependencies are lent to it by this one."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)], check=True)
    (wheel,) = folder.glob("kvscape-*.whl")
    environment = folder / "environment"
    venv.create(environment, with_pip=False)
    subprocess.run([*pip, "--python", str(environment), "install", "--no-deps", str(wheel)], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    # A path file inside a lent folder is not followed, so the editable install of this environment stays behind.
    (packages / "lent.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return environment / "bin" / "kvscape"


def run(command: Path, home: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TVM_", "PYTHON"))}
    done = subprocess.run(
        [command, *arguments],
        capture_output=True,
        text=True,
        cwd=home,
        env={**environment, "KVSCAPE_HOME": str(home)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_shows_its_help(kvscape_of_the_wheel: Path, tmp_path: Path) -> None:
    assert "generate" in run(kvscape_of_the_wheel, tmp_path, "--help")


def test_the_wheel_generates(
    kvscape_of_the_wheel: Path, long_gguf: Path, new_home: Callable[[Path], Path], tmp_path: Path
) -> None:
    model = ("--model", str(long_gguf), "--kv-dtype", "k=f16,v=int8")  # a pair's library is the quickest to compile
    out = run(kvscape_of_the_wheel, new_home(tmp_path), "generate", *model, "--prompt", "x", "--max-tokens", "2")
    assert out.endswith("\n")
    python = kvscape_of_the_wheel.with_name("python")
    where = run(python, tmp_path, "-c", "import kvscape; print(kvscape.__file__)")
    assert Path(where.strip()).is_relative_to(kvscape_of_the_wheel.parents[1])


def test_the_wheel_holds_every_file(kvscape_of_the_wheel: Path) -> None:
    (installed,) = kvscape_of_the_wheel.parents[1].glob("lib/python*/site-packages/kvscape")
    sources = {path.relative_to(ROOT / "src" / "kvscape") for path in (ROOT / "src" / "kvscape").rglob("*.*")}
    missing = {path for path in sources if path.suffix != ".pyc" and not (installed / path).exists()}
    assert not missing
