"""The order in which a target's kernels read the codes: written once beside the canonical weights."""

from kvscape.quantization.layouts.blocked import LAYOUTS, Layout

__all__ = ["LAYOUTS", "Layout"]
