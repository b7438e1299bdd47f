"""kvscape: compile an LLM with Apache TVM, run it, and map what every quantization and KV-cache choice costs."""

from typing import TYPE_CHECKING, Any

from kvscape.version import __version__

if TYPE_CHECKING:
    from kvscape.engine.request import SamplingParams
    from kvscape.llm import LLM, Completion

__all__ = ["LLM", "Completion", "SamplingParams", "__version__"]


def __getattr__(name: str) -> Any:
    """Load the engine when it is first asked for, so that ``kvscape --help`` does not wait for it."""
    if name in ("LLM", "Completion", "SamplingParams"):
        from kvscape import llm

        return getattr(llm, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
