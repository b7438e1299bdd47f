"""Fuzz the readers with atheris: ``python tests/fuzz/run.py [--seconds 60] [TARGET ...]``; ``make fuzz`` does it.

Each target runs in a process of its own. What it has found stays in ``build/fuzz/TARGET`` and is where the next run
goes on; an input that breaks a reader lies beside it and is named in the output.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["kvscape"]):
    from targets import TARGETS, run, seeds

FOLDER = Path("build") / "fuzz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", default=list(TARGETS))
    arguments = parser.parse_args()
    if arguments.here:
        fuzz(arguments.here, arguments.seconds)
    for target in arguments.targets:
        command = [sys.executable, __file__, "--here", target, "--seconds", str(arguments.seconds)]
        if subprocess.run(command, check=False).returncode:
            sys.exit(f"error: {target} broke; the input is in {FOLDER}")


def fuzz(target: str, seconds: int) -> None:
    """Run one target for some seconds and end the process."""
    corpus = FOLDER / target
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(target)):
        (corpus / f"seed-{number}").write_bytes(seed)
    limits = ["-max_len=200000", "-timeout=20", "-rss_limit_mb=2048", f"-max_total_time={seconds}"]
    found = f"-artifact_prefix={FOLDER}/{target}-"
    atheris.Setup([sys.argv[0], *limits, found, str(corpus)], lambda content: run(target, content))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
