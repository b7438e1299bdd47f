"""Quality: what a text's perplexity is under a named protocol."""

from kvscape.quality.measure import measure_perplexity, quality_point
from kvscape.quality.perplexity import Perplexity, Scorer, perplexity
from kvscape.quality.protocols import PROTOCOLS, Settings
from kvscape.quality.text import Text, built_in_text, text_from_file

__all__ = [
    "PROTOCOLS",
    "Perplexity",
    "Scorer",
    "Settings",
    "Text",
    "built_in_text",
    "measure_perplexity",
    "perplexity",
    "quality_point",
    "text_from_file",
]
