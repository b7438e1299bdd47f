"""How the next token is chosen; the same seed and position give the same choice in any batch, on any device."""

from kvscape.engine.devices.device import Draw
from kvscape.engine.draws import uniform
from kvscape.engine.edits import wanted_edits
from kvscape.engine.sequence import Sequence


def wanted_draw(row: int, sequence: Sequence, ahead: int = 0) -> Draw:
    """How the token behind ``sequence`` and the first ``ahead`` of its draft is drawn from a row of logits.

    Raises what its guide raises, EngineError where that allows no token.
    """
    params = sequence.request.params
    number = uniform(params.seed, len(sequence.token_ids) + ahead) if params.temperature > 0 else 0.0
    edits = wanted_edits(sequence, sequence.draft[:ahead])
    return Draw(row, params.top_k, params.temperature, params.top_p, params.min_p, number, edits)
