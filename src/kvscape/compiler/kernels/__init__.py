"""Kernels as TVMScript, and their registries."""

from kvscape.compiler.kernels.parser_lookup import speed_up_macros

speed_up_macros()
