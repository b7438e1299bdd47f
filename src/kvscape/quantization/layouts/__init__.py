"""The order in which a target's kernels read the codes: written once beside the canonical weights."""

from collections.abc import Mapping
from types import MappingProxyType

from kvscape.quantization.layouts.blocked import BlockedLayout
from kvscape.quantization.layouts.fragments import FragmentLayout
from kvscape.quantization.layouts.layout import Layout
from kvscape.quantization.layouts.words import WordLayout

_ALL: tuple[Layout, ...] = (BlockedLayout("rows8", 8), BlockedLayout("rows16", 16), FragmentLayout(), WordLayout())
LAYOUTS: Mapping[str, Layout] = MappingProxyType({layout.name: layout for layout in _ALL})

__all__ = ["LAYOUTS", "Layout"]
