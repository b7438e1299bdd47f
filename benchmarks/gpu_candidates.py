"""Products of many tokens on an H100: the one in use, and candidates for it (gpu_products/products.cuh).

What builds them needs TVM's compiler; their names and sizes do not.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvscape.quantization.format import FORMATS, Format
from kvscape.quantization.layouts.fragments import group_size

TILE = 128  # rows and tokens of a block
PROCESSORS = 132
_TEXTS = Path(__file__).parent / "gpu_products"
_SHARED_BYTES = 232_448  # that a block may have
_MOST_STAGES = 6
_SPECIALISTS = 384


@dataclass(frozen=True)
class Product:
    """x W^T of ``weights`` [N, K]; with a gate the first half of the rows are gates of the second."""

    weights: str
    N: int
    K: int
    gate: str = ""

    @property
    def format(self) -> Format:
        return FORMATS[self.weights]

    @property
    def name(self) -> str:
        return "_".join([*([self.gate] if self.gate else []), self.weights, f"{self.N}x{self.K}"])

    @property
    def in_use(self) -> str:
        return f"linear_{self.name}"

    @property
    def arranging(self) -> str:
        return f"arrange_{self.weights}_{self.K}"

    def output(self, n: int) -> tuple[tuple[int, int], str]:
        return ((n, self.N // 2), "float16") if self.gate else ((n, self.N), "float32")

    def arranged(self, n: int) -> tuple[tuple[int], str]:
        """What `arrange` makes of ``n`` tokens: whole tiles and chunks."""
        chunk = 4 * group_size(self.format)
        return (-(-n // TILE) * TILE * -(-self.K // chunk) * chunk,), "float16"


@dataclass(frozen=True)
class Candidate:
    """A way of the tokens' numbers into shared memory, a C++ class, and the function that multiplies.

    Before some `arrange` must have been called. One with more ``rows`` in a tile joins ranges in shared memory, and has
    registers for weights of 4 bits at most.
    """

    name: str
    way: str
    is_arranged: bool = False
    function: str = "specialised"
    rows: int = TILE

    def takes(self, product: Product) -> bool:
        return self.rows == TILE or product.format.bits <= 4

    @property
    def shared_bytes(self) -> int:
        """Beside the stages: sums of f32 numbers."""
        return 0 if self.rows == TILE else self.rows * TILE * 4

    def key(self, product: Product) -> str:
        return f"{self.name}_{product.name}"


CANDIDATES = (
    Candidate("passed", "Passed<{F}, {K}, 4>"),
    Candidate("arranged", "Arranged<{F}, {K}>", is_arranged=True),
    Candidate("wide", "Arranged<{F}, {K}>", is_arranged=True, function="wide", rows=2 * TILE),
)
LIMIT = Candidate("limit", "Nothing")
"""Multiplies whatever is in shared memory: what the others would take if their tokens' numbers were there."""


def instead(barriers: str | None = None) -> Mapping[str, str]:
    """Parts of a library's text that have the candidates, too; ``barriers`` stand for those of a GPU."""
    from kvscape.compiler.device_code import part

    known = (_TEXTS / "barriers.cuh").read_text(encoding="utf-8") if barriers is None else barriers
    products = (_TEXTS / "products.cuh").read_text(encoding="utf-8")
    return {"linear": "\n".join([part("linear"), known, products])}


def functions(product: Product, processors: int = PROCESSORS) -> Iterator[tuple[str, Any]]:
    """The host functions by name: the one in use, `arrange`, and the candidates'."""
    from kvscape.compiler.kernels.cuda.linear import linear_function

    yield product.in_use, linear_function(product.format, product.N, product.K, product.gate)
    yield product.arranging, _arranging(product)
    for candidate in filter(lambda each: each.takes(product), (*CANDIDATES, LIMIT)):
        yield candidate.key(product), _function(candidate, product, processors)


def _arranging(product: Product) -> Any:
    """Arguments: x f16 [n, K], and what it becomes f16 [arranged]."""
    from tvm import tirx

    from kvscape.compiler.kernels.cuda.host import Argument, Host, blocks
    from kvscape.compiler.kernels.cuda.linear import NAMES, THREADS

    host = Host(product.arranging)
    arguments = [host.tensor("x", ("n", product.K), "float16"), host.tensor("to", ("m",), "float16")]
    n, chunks = host.size("n"), -(-product.K // (4 * group_size(product.format)))
    call = f"arrange<{NAMES[product.weights]}, {product.K}>(x, (uint4*)to, n)"
    launch = host.launch(call, [*arguments, Argument("int", "n", n)], [chunks, blocks(n, TILE)], THREADS)
    return host.function(tirx.IfThenElse(n > 0, launch, None))


def _function(candidate: Candidate, product: Product, processors: int) -> Any:
    """Arguments: the packed weight, x f16 [n, K] or arranged, y as the product in use has it."""
    from tvm import tirx

    from kvscape.compiler.kernels.cuda.host import Argument, Host, blocks
    from kvscape.compiler.kernels.cuda.linear import GATES, NAMES
    from kvscape.quantization.layouts.fragments import FragmentLayout

    host, fmt, N, K = Host(candidate.key(product)), product.format, product.N, product.K
    shapes = FragmentLayout().shapes(fmt, N, K)
    weight = [host.tensor(name, shape, dtype) for name, (shape, dtype) in shapes.items()]
    x = host.tensor("x", ("m",) if candidate.is_arranged else ("n", K), "float16")
    (_, columns), dtype = product.output(0)
    n = host.size("n")
    arguments = [*weight, x, host.tensor("y", ("n", columns), dtype), Argument("int", "n", n)]
    stage_bytes = group_size(fmt) // 2 * TILE * 16 + 16  # and two barriers
    stages = min(_MOST_STAGES, (_SHARED_BYTES - candidate.shared_bytes) // stage_bytes)
    shared_bytes = stages * stage_bytes + candidate.shared_bytes
    end = f"Gating<{GATES[product.gate]}>" if product.gate else "Plain"
    types = (
        f"{NAMES[product.weights]}, {end}, {N}, {K}, {candidate.way.format(F=NAMES[product.weights], K=K)}, {stages}"
    )
    call = f"{candidate.function}<{types}>((const uint4*)codes, (const u32*){weight[-1].name}, x, y, n)"
    grid = [tirx.min(-(-N // candidate.rows) * blocks(n, TILE), processors)]
    launch = host.launch(call, arguments, grid, _SPECIALISTS, shared_bytes)
    return host.function(tirx.IfThenElse(n > 0, launch, None))
