"""A cold compilation and a warm start: ``python benchmarks/start.py [--model M] [--quantization Q] [--runs 3]``.

Cold: ``kvscape compile`` with an empty cache; the model's file is there already, so nothing is downloaded. Warm: from
the start of the process to its first token, with everything in the cache. The targets are 60 s and 1 s on two cores.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

from kvscape.config.point import DEFAULT_MODEL
from kvscape.hub import resolve

WARM = (
    "import sys; from kvscape import LLM, SamplingParams\n"
    "llm = LLM(sys.argv[1], quantization=sys.argv[2])\n"
    "print(next(iter(llm.stream('Why is the sky blue?', SamplingParams(max_tokens=4, ignore_eos=True)))), flush=True)"
)


def compile_s(model: str, quantization: str, home: str) -> float:
    command = [sys.executable, "-m", "kvscape", "compile", model, "--quantization", quantization, "--json"]
    start = time.perf_counter()
    subprocess.run(command, env={**os.environ, "KVSCAPE_HOME": home}, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def first_token_s(model: str, quantization: str, home: str) -> float:
    """Seconds from the start of a process until its first text is in a pipe."""
    environment, start = {**os.environ, "KVSCAPE_HOME": home}, time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", WARM, model, quantization], env=environment, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        if not process.stdout.read(1):
            sys.exit("error: the process gave no token")
        seconds = time.perf_counter() - start
        process.stdout.read()
        return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--quantization", default="auto")
    parser.add_argument("--runs", type=int, default=3, help="warm starts; the first after the compilation is left out")
    arguments = parser.parse_args()
    model = str(resolve(arguments.model))  # downloaded before anything is timed
    with tempfile.TemporaryDirectory() as home:
        print(f"cold compilation   {compile_s(model, arguments.quantization, home):8.2f} s (target 60)", flush=True)
        warm = [first_token_s(model, arguments.quantization, home) for _ in range(arguments.runs + 1)][1:]
    print(f"warm first token   {statistics.median(warm):8.2f} s (target 1), {min(warm):.2f} to {max(warm):.2f}")


if __name__ == "__main__":
    main()
