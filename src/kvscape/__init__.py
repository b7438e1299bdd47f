"""kvscape: compile an LLM with Apache TVM, run it, and map what every quantization and KV-cache choice costs."""

from kvscape.version import __version__

__all__ = ["__version__"]
