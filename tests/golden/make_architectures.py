"""Write architectures.json again: ``PYTHONPATH=src:tests python tests/golden/make_architectures.py``.

Needs an environment with the ``reference`` extra. What transformers says of each tiny architecture: log-probabilities
of all tokens, logits at some, and a greedy answer; what longrope says of a short context; and RoPE's frequencies.
"""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from architectures import ARCHITECTURES, ROPES, TOKENS
from kvscape.config import ModelConfig
from reference import reference_greedy, reference_logits, reference_logprobs
from reference_architectures import reference_config, reference_model

FILE = Path(__file__).with_name("architectures.json")
ROWS = [0, 31, 63, 128, 255, 299]
PROMPT, ANSWER = 260, 40
SHORT = 120  # tokens within longrope's original length


def main() -> None:
    golden = {
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "rows": ROWS,
        "architectures": {name: logits_of(config) for name, config in ARCHITECTURES.items()},
        "short": rounded(reference_logprobs(reference_model(ARCHITECTURES["phi3"]), TOKENS[:SHORT]), 6),
        "ropes": {name: rope_of(config) for name, config in ROPES.items()},
    }
    text = json.dumps(golden, indent=1)
    FILE.write_text(re.sub(r"\[[\s\d.,e-]*\]", lambda match: " ".join(match[0].split()), text) + "\n", encoding="utf-8")


def logits_of(config: ModelConfig) -> dict[str, Any]:
    model = reference_model(config)
    greedy = reference_greedy(model, TOKENS[:PROMPT], ANSWER)
    return {
        "logits": [rounded(row, 5) for row in reference_logits(model, TOKENS)[ROWS]],
        "logprobs": rounded(reference_logprobs(model, TOKENS), 6),
        "greedy": [first for (first, _), _ in greedy],
        "margins": [round(best - second, 4) for (_, best), (_, second) in greedy],
    }


def rope_of(config: ModelConfig) -> dict[str, Any]:
    """Frequencies below and beyond the original length, and the factor of cosines and sines."""
    made = reference_config(replace(config, model_type="llama"))
    compute: Any = ROPE_INIT_FUNCTIONS[config.rope_scaling.rope_type]
    (short, factor), (long, _) = (compute(made, "cpu", seq_len=length) for length in (1, 10**6))
    return {"short": [float(f) for f in short], "long": [float(f) for f in long], "factor": factor}


def rounded(values: np.ndarray, digits: int) -> list[float]:
    return [round(float(value), digits) for value in values]


if __name__ == "__main__":
    main()
