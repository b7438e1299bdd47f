"""How much of a reference's distributions is kept: the k likeliest tokens, and something of the rest."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from kvscape.artifact.tensor_file import TensorSpec
from kvscape.errors import ConfigError, near_match

SHOWN = 5
"""Likeliest tokens that top-5 agreement and the worst tokens' table need."""

REST_BITS: Mapping[str, int] = MappingProxyType({"mass": 0, "8bit": 8, "16bit": 16})
_GIB = 2**30


@dataclass(frozen=True)
class ReferenceFormat:
    """``top_k`` exact log-probabilities of each row; of the rest a code for each token, or what it is together.

    ``rest`` "mass" keeps the rest's probability and entropy, "8bit" and "16bit" a rounded log-probability of each.
    """

    top_k: int = 256
    rest: str = "8bit"

    def __post_init__(self) -> None:
        if self.rest not in REST_BITS:
            raise ConfigError(f"unknown rest {self.rest!r} of a reference", "", near_match(self.rest, REST_BITS))
        if self.top_k < SHOWN:
            why = f"top-{SHOWN} agreement needs {SHOWN} tokens"
            raise ConfigError(f"top_k = {self.top_k} of a reference", why, "give a larger number")

    @property
    def bits(self) -> int:
        """Bits of a code; 0 without codes."""
        return REST_BITS[self.rest]

    def fitted(self, vocab_size: int) -> "ReferenceFormat":
        """A vocabulary may have fewer tokens than ``top_k``."""
        return ReferenceFormat(max(SHOWN, min(self.top_k, vocab_size - 1)), self.rest)

    def specs(self, rows: int, vocab_size: int) -> dict[str, TensorSpec]:
        """The tensors of a file of that many rows."""
        specs = {
            "target_logprobs": TensorSpec("float32", (rows,)),
            "top_ids": TensorSpec("uint16" if vocab_size <= 2**16 else "uint32", (rows, self.top_k)),
            "top_logprobs": TensorSpec("float32", (rows, self.top_k)),
            "rest": TensorSpec("float32", (rows,)),
        }
        if self.bits:
            specs["steps"] = TensorSpec("float32", (rows,))
            specs["codes"] = TensorSpec(f"uint{self.bits}", (rows, vocab_size))
        else:
            specs["rest_entropy"] = TensorSpec("float32", (rows,))
        return specs

    def nbytes(self, rows: int, vocab_size: int) -> int:
        return sum(spec.nbytes for spec in self.specs(rows, vocab_size).values())


def check_limit(form: ReferenceFormat, rows: int, vocab_size: int, limit_bytes: int) -> None:
    """Raise ConfigError, saying what does fit, when a reference would be larger than ``limit_bytes``."""
    nbytes = form.nbytes(rows, vocab_size)
    if nbytes <= limit_bytes:
        return
    raise ConfigError(
        f"this reference would take {nbytes / _GIB:.2f} GiB",
        f"{rows:,} tokens, top {form.top_k}, rest as {form.rest}; the limit is {limit_bytes / _GIB:.2f} GiB",
        _what_fits(form, rows, vocab_size, limit_bytes),
    )


def _what_fits(form: ReferenceFormat, rows: int, vocab_size: int, limit_bytes: int) -> str:
    if form.bits > 8 and ReferenceFormat(form.top_k, "8bit").nbytes(rows, vocab_size) <= limit_bytes:
        return "--reference-rest 8bit fits, or score fewer windows (--limit)"
    smallest, more = (ReferenceFormat(k, "mass").nbytes(rows, vocab_size) for k in (SHOWN, SHOWN + 1))
    top_k = min(SHOWN + (limit_bytes - smallest) // (more - smallest), vocab_size - 1)
    if top_k < SHOWN:
        return "score fewer windows (--limit) or raise --reference-limit"
    return f"--reference-rest mass with --reference-top-k {top_k} fits, or score fewer windows (--limit)"
