"""kvscape: compile an LLM with Apache TVM, run it, and map what every quantization and KV-cache choice costs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kvscape.version import __version__

if TYPE_CHECKING:
    from kvscape.engine.request import SamplingParams
    from kvscape.llm import LLM, Completion
    from kvscape.notebook import Study
    from kvscape.study import Space

__all__ = ["LLM", "Completion", "SamplingParams", "Space", "Study", "__version__"]

_HOMES = {
    "LLM": "kvscape.llm",
    "Completion": "kvscape.llm",
    "SamplingParams": "kvscape.llm",
    "Space": "kvscape.study",
    "Study": "kvscape.notebook",
}


def __getattr__(name: str) -> Any:
    """Load the engine or a study when it is first asked for, so that ``kvscape --help`` does not wait for it."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
