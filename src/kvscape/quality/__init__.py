"""Quality: what a text's perplexity is under a named protocol."""

from kvscape.quality.measure import measure_perplexity, open_journal, quality_point
from kvscape.quality.perplexity import Perplexity, Running, Scorer, perplexity
from kvscape.quality.protocols import PROTOCOLS, Settings
from kvscape.quality.text import Text, built_in_text, text_from_file
from kvscape.quality.text_choice import TextChoice

__all__ = [
    "PROTOCOLS",
    "Perplexity",
    "Running",
    "Scorer",
    "Settings",
    "Text",
    "TextChoice",
    "built_in_text",
    "measure_perplexity",
    "open_journal",
    "perplexity",
    "quality_point",
    "text_from_file",
]
