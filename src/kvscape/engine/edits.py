"""What a request does to its logits before a token is drawn: penalties, biases, and what its guide allows.

The repetition penalty divides positive logits and multiplies the others, for tokens of prompt and answer; the presence
penalty is subtracted once, the frequency penalty once for each time the token is in the answer. Biases are added.
"""

from collections.abc import Sequence as Ordered

import numpy as np

from kvscape.engine.devices.device import CHANGE, Changes, Edits, IntArray
from kvscape.engine.draws import MOST, Vector
from kvscape.engine.request import SamplingParams
from kvscape.engine.sequence import Sequence

_NOTHING = np.zeros(0, np.int32)


def wanted_edits(sequence: Sequence, ahead: Ordered[int] = ()) -> Edits | None:
    """Those of the token that follows ``sequence`` and some drafted tokens; None where the logits stay as they are."""
    params, tally, lead = sequence.request.params, sequence.tally, sequence.lead
    if tally is None and not params.logit_bias and lead is None:
        return None
    counted = (_NOTHING, _NOTHING) if tally is None else tally.of(sequence.token_ids, ahead)
    return Edits(changes(params, *counted), None if lead is None else lead.allowed())


def changes(params: SamplingParams, token_ids: IntArray, counts: IntArray) -> Changes:
    """What is done to the logits of tokens that were there, ``counts`` times in the answer, and of biased ones."""
    offsets = -(params.frequency_penalty * counts + params.presence_penalty * (counts > 0))
    penalized = _changes(token_ids, offsets, params.repetition_penalty)
    return _biased(penalized, params.logit_bias) if params.logit_bias else penalized


def _changes(token_ids: IntArray, offsets: Vector, factor: float = 1.0) -> Changes:
    made = np.empty(len(token_ids), CHANGE)
    made["token_id"], made["offset"] = token_ids, offsets
    made["positive"], made["other"] = min(1 / factor, MOST), min(factor, MOST)
    return made


def _biased(penalized: Changes, bias: Ordered[tuple[int, float]]) -> Changes:
    """One change for each token; those behind a token's first one only add to its offset."""
    token_ids, values = zip(*bias, strict=True)
    whole = np.concatenate([penalized, _changes(np.array(token_ids, np.int32), np.array(values, np.float64))])
    _, first, places = np.unique(whole["token_id"], return_index=True, return_inverse=True)
    made = whole[first]
    made["offset"] = np.bincount(places, whole["offset"].astype(np.float64))
    return made
