"""How keys and values are kept: ``int8``, or apart as ``k=int8,v=int4``."""

import re
from dataclasses import dataclass

from kvscape.errors import ConfigError, near_match

KV_DTYPES = ("f32", "f16", "int8", "int4")
GPU_KV_DTYPES = (*KV_DTYPES, "fp8")
"""Those that GPUs have."""
KEY_GROUP = 16
"""Tokens that share a channel's scale in int4 keys (KIVI, arXiv 2402.02750)."""

_APART = re.compile(r"k=(\w+),v=(\w+)")


@dataclass(frozen=True)
class KVPrecision:
    """The precision of keys and that of values."""

    key: str
    value: str

    def __post_init__(self) -> None:
        for dtype in (self.key, self.value):
            if dtype not in GPU_KV_DTYPES:
                raise ConfigError(f"unknown kv_dtype {dtype!r}", "", near_match(dtype, GPU_KV_DTYPES))

    @classmethod
    def parse(cls, text: str) -> "KVPrecision":
        """Read a name; raise ConfigError for one that is none."""
        apart = _APART.fullmatch(text.replace(" ", ""))
        return cls(*apart.groups()) if apart else cls(text, text)

    @property
    def name(self) -> str:
        return self.key if self.key == self.value else f"k={self.key},v={self.value}"

    @property
    def identifier(self) -> str:
        """The name as a function's name may have it."""
        return self.key if self.key == self.value else f"k_{self.key}_v_{self.value}"

    @property
    def key_group(self) -> int:
        """Tokens whose keys are rounded together; a sequence keeps those of its unfinished group in its tail."""
        return KEY_GROUP if self.key == "int4" else 1


def library_kv_dtypes(kv_dtype: str, known: tuple[str, ...] = KV_DTYPES) -> tuple[str, ...]:
    """The precisions of the library that has ``kv_dtype``: all that are ``known`` to its kernels, or one pair.

    Raises ConfigError for a precision that they do not have.
    """
    precision = KVPrecision.parse(kv_dtype)
    if precision.key not in known or precision.value not in known:
        *others, last = known
        why = f"the kernels of this device have {', '.join(others)} and {last}"
        raise ConfigError(f"kv_dtype = {precision.name}", why, "choose one of them, or another --device")
    return known if precision.name in known else (precision.name,)
