"""AttachMetadata: the library carries a description of itself, as a function that returns JSON."""

from collections.abc import Callable
from typing import Any

from tvm import ir, relax

METADATA_FUNCTION = "_metadata"


class AttachMetadata:
    """Adds the function; runs after MemoryUsage, whose formulas belong to the description."""

    def __init__(self, describe: Callable[[Any], str]) -> None:
        self.describe = describe

    def __call__(self, mod: Any) -> Any:
        builder = relax.BlockBuilder(mod)
        with builder.function(METADATA_FUNCTION, []):
            builder.emit_func_output(ir.StringImm(self.describe(mod)))
        return builder.get()
