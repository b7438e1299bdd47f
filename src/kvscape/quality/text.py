"""Texts to score; calibration reads the same ones, so what they are lies below both."""

from kvscape.plain_text import HALVES, Text, built_in_text, text_from_file

__all__ = ["HALVES", "Text", "built_in_text", "text_from_file"]
