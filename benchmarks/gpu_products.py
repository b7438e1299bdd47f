"""Products of many tokens on an H100: the one in use beside candidates (gpu_candidates.py), at Llama-3-8B's shapes.

``gpu_products.py build FILE`` compiles anywhere, ``gpu_products.py run FILE [--peer PYTHON]`` compares and times on the
GPU; ``--only checks`` and ``--only speeds`` are the halves of it, ``--candidates`` and ``--weights`` choose. All must
give the same bits. Times are medians of rounds in which each has its turn; the peer, a Python that has PyTorch,
multiplies f16 numbers before and after. ``limit`` multiplies whatever is in shared memory.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from gpu_candidates import CANDIDATES, LIMIT, Candidate, Product, functions, instead

sys.path.append(str(Path(__file__).parents[1] / "tests" / "gpu"))
import kernels

from kvscape.quantization.layouts.fragments import FragmentLayout

Array = np.ndarray[Any, Any]
PEER = Path(__file__).with_name("gpu_products_peer.py")
ROUNDS, TOKENS = 7, (512, 8192)
SHAPES = ((6144, 4096, ""), (4096, 4096, ""), (28672, 4096, "swiglu"), (4096, 14336, ""))
SPEEDS = tuple(Product(weights, *shape) for weights in ("q4f16_1", "f16") for shape in SHAPES)
CHECKED_TOKENS = (17, 136, 300)
CHECKS = tuple(
    Product(weights, 160, 1448, gate)
    for weights in ("f16", "q8f16_1", "q4f16_1", "q4af16_1", "q3f16_1")
    for gate in ("", "swiglu")
)


def build(file: Path) -> None:
    part = kernels.Part("products", all_functions, lambda *_: iter(()))
    kernels.build(file, "sm_90", [part], instead())


def all_functions() -> Iterator[tuple[str, Any]]:
    yield from {name: function for product in (*CHECKS, *SPEEDS) for name, function in functions(product)}.items()


def differing(
    run: kernels.Kernels,
    products: Sequence[Product],
    tokens: Sequence[int],
    rng: np.random.Generator,
    candidates: Sequence[Candidate] = CANDIDATES,
) -> Iterator[tuple[str, int]]:
    """Name and tokens of what gives other bits than the product in use."""
    for product in products:
        packed, _ = kernels.weights(product.weights, product.N, product.K, rng)
        x = rng.standard_normal((max(tokens), product.K)).astype(np.float16)
        for n in tokens:
            (wanted,) = run(product.in_use, [*packed, x[:n]], [product.output(n)])
            (arranged,) = run(product.arranging, [x[:n]], [product.arranged(n)])
            for candidate in filter(lambda each: each.takes(product), candidates):
                given = arranged if candidate.is_arranged else x[:n]
                (y,) = run(candidate.key(product), [*packed, given], [product.output(n)])
                if y.tobytes() != wanted.tobytes():
                    yield candidate.key(product), n


class Timed:
    """One product of ``n`` random tokens on the GPU."""

    def __init__(self, run: kernels.Kernels, product: Product, n: int, candidates: Sequence[Candidate]) -> None:
        self._run, self.product, self.n, rng = run, product, n, np.random.default_rng(0)
        shapes = FragmentLayout().shapes(product.format, product.N, product.K)
        weight = [run.tensor(_random(shape, dtype, product.format.is_float, rng)) for shape, dtype in shapes.values()]
        x = run.tensor(_random((n, product.K), "float16", True, rng))
        arranged = run.tensor(np.zeros(*product.arranged(n)))
        self.y = run.tensor(np.zeros(*product.output(n)))
        self.calls: dict[str, tuple[str, list[Any]]] = {
            "in use": (product.in_use, [*weight, x, self.y]),
            "arrange": (product.arranging, [x, arranged]),
            **{
                each.name: (each.key(product), self._given(each, weight, x, arranged))
                for each in candidates
                if each.takes(product)
            },
        }

    def _given(self, candidate: Candidate, weight: list[Any], x: Any, arranged: Any) -> list[Any]:
        return [*weight, arranged if candidate.is_arranged else x, self.y]

    def bits(self, name: str) -> bytes:
        for each in (LIMIT.name, name):  # the first leaves garbage for the second to write over
            function, arguments = self.calls[each]
            self._run.function(function)(*arguments)
        found: bytes = self.y.numpy().tobytes()
        return found

    def seconds(self, timer: Any) -> dict[str, float]:
        """The median of each, where all have their turn in each round."""
        from kvscape.bench.replay import Call

        calls = [Call(name, self._run.function(name), tuple(given)) for name, given in self.calls.values()]
        rounds = [timer.timed(calls, [call.function for call in calls]) for _ in range(ROUNDS)]
        return dict(zip(self.calls, map(median, zip(*rounds, strict=True)), strict=True))


def _random(shape: Sequence[int], dtype: str, is_float: bool, rng: np.random.Generator) -> Array:
    """Codes of any value; f16 numbers, in which the codes of f16 weights are, of a usual size. A part is repeated."""
    if dtype == "uint8" and not is_float:
        return np.resize(rng.integers(0, 256, 1 << 20, np.uint8), shape)
    numbers = np.resize((rng.standard_normal(1_000_003) * 0.05).astype(np.float16), (int(np.prod(shape)),))
    return numbers[: numbers.size // 2].view(np.uint8).reshape(shape) if dtype == "uint8" else numbers.reshape(shape)


def peer(python: str | None) -> list[dict[tuple[int, int, int], float]]:
    """Seconds by n, N and K, once; nothing where there is no peer or it fails, which is said."""
    if python is None:
        return []
    sizes = [(n, N, K) for N, K, _ in SHAPES for n in TOKENS]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([python, str(PEER)], input=json.dumps(sizes), capture_output=True, text=True, env=environment)
    if done.returncode:
        print("PyTorch:", *done.stderr.splitlines()[-1:], file=sys.stderr, flush=True)
        return []
    return [dict(zip(sizes, json.loads(done.stdout.splitlines()[-1]), strict=True))]


def speeds(
    run: kernels.Kernels, products: Sequence[Product], candidates: Sequence[Candidate], python: str | None
) -> bool:
    """Print TFLOPS of each product, and whether all gave the same bits; return that of all."""
    from kvscape.bench.gpu_driver import GpuDriver
    from kvscape.bench.gpu_timer import GpuTimer

    timer, others, is_good = GpuTimer(GpuDriver(0)), peer(python), True
    names = ["in use", *(each.name for each in (*candidates, LIMIT))]
    print(f"| weights | N x K | tokens | {' | '.join(names)} | arrange us | PyTorch f16 | bits |")
    print("| --- | --- |" + " ---: |" * (len(names) + 3) + " --- |")
    rows = []
    for product in products:
        for n in TOKENS:
            timed = Timed(run, product, n, (*candidates, LIMIT))
            wanted = timed.bits("in use")
            timed.bits("arrange")
            bad = [each.name for each in candidates if each.takes(product) and timed.bits(each.name) != wanted]
            is_good = is_good and not bad
            rows.append((product, n, timed.seconds(timer), bad))
            print(f"{product.name} {n}: {rows[-1][2]} {bad}", file=sys.stderr, flush=True)
    others += peer(python)
    for product, n, found, bad in rows:
        work = 2e-12 * n * product.N * product.K
        theirs = [work / median(each[n, product.N, product.K] for each in others)] if others else []
        cells = [f"{work / found[name]:.0f}" if name in found else "" for name in names]
        cells += [f"{found['arrange'] * 1e6:.0f}", *(f"{rate:.0f}" for rate in theirs or [float("nan")])]
        cells.append("OTHER: " + ", ".join(bad) if bad else "same")
        print(f"| {product.weights} | {product.N} x {product.K} | {n:,} | {' | '.join(cells)} |")
    return is_good


def run(asked: argparse.Namespace) -> int:
    found, is_good = kernels.Kernels(asked.file), True
    candidates = [each for each in CANDIDATES if each.name in asked.candidates.split(",")]
    checks, timed = ([each for each in of if each.weights.startswith(asked.weights)] for of in (CHECKS, SPEEDS))
    if asked.only != "speeds":
        others = list(differing(found, checks, CHECKED_TOKENS, np.random.default_rng(0), candidates))
        print(*(f"{name} of {n} tokens has other bits" for name, n in others), f"{len(others)} differ", sep="\n")
        is_good = not others
    if asked.only != "checks":
        is_good = speeds(found, timed, candidates, asked.peer) and is_good
    return int(not is_good)


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare products of many tokens.")
    parser.add_argument("command", choices=("build", "run"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", choices=("checks", "speeds"), default="")
    names = ",".join(each.name for each in CANDIDATES)
    parser.add_argument("--candidates", default=names, metavar=names, help="these alone")
    parser.add_argument("--weights", default="", help="of one format alone, e.g. q4f16_1")
    parser.add_argument("--peer", metavar="PYTHON", help="a Python with PyTorch, e.g. python3")
    asked = parser.parse_args()
    if asked.command == "run":
        return run(asked)
    build(asked.file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
