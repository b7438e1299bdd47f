"""Runs requests through an engine on the fake device, and through the toy model alone."""

from collections.abc import Iterable

import numpy as np
from fake_device import EOS, FakeDevice, toy_logits

from kvscape.config import EngineConfig, Window
from kvscape.engine import Engine, Output, Request, SamplingParams


def engine(device: FakeDevice | None = None, **knobs: object) -> Engine:
    config = EngineConfig(**{"context_window_size": 256, **knobs})  # type: ignore[arg-type]
    return Engine(device or FakeDevice(), config)


def prompt(seed: int, length: int, vocab_size: int = 40) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(2, vocab_size, length).tolist())


def run(target: Engine, requests: Iterable[Request]) -> dict[str, list[Output]]:
    """Add all requests, step until all are done; outputs by request."""
    outputs: dict[str, list[Output]] = {}
    for request in requests:
        target.add(request)
    while target.has_work:
        for output in target.step():
            outputs.setdefault(output.request_id, []).append(output)
    return outputs


def run_choices(target: Engine, requests: Iterable[Request]) -> dict[str, list[list[int]]]:
    """Tokens of each choice of each request."""
    outputs = run(target, requests)
    return {
        name: [
            tokens(one for one in parts if one.index == index) for index in range(1 + max(one.index for one in parts))
        ]
        for name, parts in outputs.items()
    }


def tokens(outputs: Iterable[Output]) -> list[int]:
    return [token for output in outputs for token in output.token_ids]


def generate(target: Engine, prompt_token_ids: tuple[int, ...], params: SamplingParams) -> list[Output]:
    return run(target, [Request("one", prompt_token_ids, params)])["one"]


def expected_greedy(prompt_token_ids: tuple[int, ...], max_tokens: int, window: Window | None = None) -> list[int]:
    """What the toy model says without engine, cache or batch."""
    sequence = list(prompt_token_ids)
    for _ in range(max_tokens):
        sequence.append(int(toy_logits(sequence, window=window).argmax()))
        if sequence[-1] == EOS:
            break
    return sequence[len(prompt_token_ids) :]
