"""When an answer ends, and why."""

from kvscape.config import EngineConfig, ModelConfig
from kvscape.engine.admission import longest_sequence
from kvscape.engine.request import FinishReason
from kvscape.engine.sequence import Sequence


class FinishRule:
    """The end-of-sequence tokens and the room of one engine."""

    def __init__(self, model: ModelConfig, config: EngineConfig) -> None:
        self._eos_token_ids = frozenset(model.eos_token_ids)
        self._longest = longest_sequence(model, config)

    def ends(self, sequence: Sequence) -> bool:
        """Whether the newest token ends the sequence; it has no text then."""
        return sequence.token_ids[-1] in self._eos_token_ids and not sequence.request.params.ignore_eos

    def reason(self, sequence: Sequence) -> FinishReason | None:
        """Why the answer ends with its newest token; None if it goes on."""
        if sequence.text.stopped or self.ends(sequence):
            return "stop"
        full = len(sequence.token_ids) >= self._longest
        return "length" if full or sequence.num_output_tokens >= sequence.request.params.max_tokens else None
