"""``kvscape ppl --endpoint``: a text scored by a server."""

from contextlib import closing
from typing import TYPE_CHECKING

from kvscape.cli import divergence
from kvscape.cli.chosen import Flags
from kvscape.cli.loading import endpoint_point
from kvscape.cli.progress import perplexity_bar
from kvscape.cli.turn import own_turn
from kvscape.errors import ConfigError

if TYPE_CHECKING:
    from kvscape.quality import Settings, TextChoice
    from kvscape.results import PerplexityRecord


def measure_on_endpoint(flags: Flags, settings: "Settings", choice: "TextChoice") -> "PerplexityRecord":
    """Cut the text by the model's own tokenizer, which must be here, and have each window scored over HTTP."""
    if flags["model"] is None:
        why = "the server's tokenizer must be here, to cut the text"
        raise ConfigError("ppl of an endpoint", why, "name the model that the server has with --model")
    if divergence.wanted(dict(flags)):
        raise ConfigError("a divergence of an endpoint", "a server gives no distributions", "leave the reference out")
    point = endpoint_point(flags)
    from kvscape.hub import DownloadBar
    from kvscape.quality import measure_perplexity, open_journal, quality_point
    from kvscape.subjects.endpoint.scores import load_scores

    with DownloadBar() as progress:
        text = choice.read(settings.protocol, progress)
        scores = load_scores(point, progress)
    scored = quality_point(point, settings)
    with (
        own_turn(),
        closing(scores),
        open_journal(scores, scored, settings, text, bool(flags["restart"])) as journal,
        perplexity_bar() as told,
    ):
        return measure_perplexity(scores, scored, settings, text, told, journal)
