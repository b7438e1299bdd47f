"""Windows of tokens to calibrate on: of a text, or of what the model writes itself."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from kvscape.engine.request import Request, SamplingParams
from kvscape.errors import ConfigError

if TYPE_CHECKING:
    from kvscape.llm import LLM

Windows: TypeAlias = npt.NDArray[np.int32]
"""Token ids [windows, tokens of one]."""

FEWEST = 4
BATCH = 16
"""Windows that a model writes at once."""


def windows_of(token_ids: Sequence[int], most: int, window: int, bos: int | None) -> Windows:
    """Up to ``most`` windows, evenly over all of a text; where the model's texts begin with a token, each does.

    Raises ConfigError for a text that is too short.
    """
    count = len(token_ids) // window
    if count < FEWEST:
        why = f"it has {len(token_ids)} tokens"
        raise ConfigError("the calibration text is too short", why, f"give at least {FEWEST * window}")
    chosen = np.linspace(0, count - 1, min(count, most)).round().astype(int)
    windows: Windows = np.asarray(token_ids[: count * window], np.int32).reshape(count, window)[chosen]
    if bos is not None:
        windows[:, 0] = bos
    return windows


def written_windows(llm: "LLM", count: int, window: int, seed: int, progress: Callable[[int, int], None]) -> Windows:
    """What the model writes at temperature 1, each window from a random token on (and the one that texts begin with).

    ``progress(done, total)`` counts tokens.
    """
    rng = np.random.default_rng(seed)
    bos = [] if llm.tokenizer.bos_token_id is None else [llm.tokenizer.bos_token_id]
    first = [token for token in range(llm.metadata.model.vocab_size) if llm.tokenizer.token_bytes(token)]
    windows: list[list[int]] = []
    for start in range(0, count, BATCH):
        prompts = [[*bos, int(rng.choice(first))] for _ in range(min(BATCH, count - start))]
        done = start * window
        for texts in _continued(llm, prompts, window, seed + start):
            progress(done + sum(map(len, texts)), count * window)
        windows += texts
    return np.array(windows, np.int32)


def _continued(llm: "LLM", prompts: list[list[int]], window: int, seed: int) -> Iterator[list[list[int]]]:
    """Yield the texts so far, after each step."""
    texts = [list(prompt) for prompt in prompts]
    for number, prompt in enumerate(prompts):
        params = SamplingParams(window - len(prompt), 1.0, seed=seed + number, ignore_eos=True)
        llm.engine.add(Request(str(number), tuple(prompt), params))
    while llm.engine.has_work:
        for output in llm.engine.step():
            texts[int(output.request_id)] += output.token_ids
        yield texts
