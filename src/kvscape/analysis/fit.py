"""Whether an engine fits into memory; if not, the knob to turn and its largest value that fits."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from kvscape.analysis.memory import Memory, Workspace, predict_memory
from kvscape.config import EngineConfig, ModelConfig
from kvscape.errors import CapacityError

Fits = Callable[[EngineConfig], bool]


def check_fit(
    model: ModelConfig,
    config: EngineConfig,
    weights_bytes: int,
    workspaces: Mapping[str, Workspace],
    available_bytes: int,
) -> None:
    """Raise CapacityError for an engine that needs more than ``available_bytes``, before anything is allocated.

    A system may promise memory that it does not have, and end the process when it is written.
    """

    def fits(changed: EngineConfig) -> bool:
        return predict_memory(model, changed, weights_bytes, workspaces).total_bytes <= available_bytes

    if not fits(config):
        needed = predict_memory(model, config, weights_bytes, workspaces)
        raise CapacityError(_needs(config, needed), f"{_size(available_bytes)} are free", _advice(model, config, fits))


def fitting_total(
    model: ModelConfig,
    config: EngineConfig,
    weights_bytes: int,
    workspaces: Mapping[str, Workspace],
    available_bytes: int,
) -> int | None:
    """The largest max_total_sequence_length that fits into ``available_bytes``; None where context x batch does.

    Where not even one context fits it is one context's length, for ``check_fit`` to say what that needs.
    """

    def fits(total: int | None) -> bool:
        changed = replace(config, max_total_sequence_length=total)
        return predict_memory(model, changed, weights_bytes, workspaces).total_bytes <= available_bytes

    if fits(None):
        return None
    context = config.context_window_size
    return max(largest(context * config.max_batch_size, fits), context)


def largest(most: int, fits: Callable[[int], bool]) -> int:
    """Largest of 1 to ``most`` that fits, 0 when none does; whatever is smaller than one that fits must fit too."""
    fitting, beyond = 0, most + 1
    while beyond - fitting > 1:
        middle = (fitting + beyond) // 2
        fitting, beyond = (middle, beyond) if fits(middle) else (fitting, middle)
    return fitting


def _advice(model: ModelConfig, config: EngineConfig, fits: Fits) -> str:
    for start, knob, already in _turns(config):

        def fits_with(value: int, start: EngineConfig = start, knob: str = knob) -> bool:
            return fits(_turned(model, start, knob, value))

        if value := largest(getattr(start, knob), fits_with):
            return f"use {already}{knob} at most {value}"
    return "nothing is left for a KV cache: use a smaller model or quantization, or free memory"


def _turns(config: EngineConfig) -> Iterator[tuple[EngineConfig, str, str]]:
    """Knobs in the order to try: the configuration to start from, the knob, and what was already turned."""
    if config.max_total_sequence_length is not None:
        yield config, "max_total_sequence_length", ""
        return
    already = ""
    if config.max_batch_size > 1:
        yield config, "max_batch_size", ""
        config, already = replace(config, max_batch_size=1), "max_batch_size 1 and "
    if config.sliding_window_size != -1:
        yield config, "sliding_window_size", already
    yield config, "context_window_size", already


def _turned(model: ModelConfig, config: EngineConfig, knob: str, value: int) -> EngineConfig:
    """A window must hold its sinks and the query: one that is too small for them counts as the smallest."""
    least = config.attention_sink_size + 1 if knob == "sliding_window_size" else 1
    changes: dict[str, int] = {knob: max(value, least)}
    return replace(config, **changes).fitted(model)  # type: ignore[arg-type]


def _needs(config: EngineConfig, needed: Memory) -> str:
    if config.max_total_sequence_length is not None:
        cache = f"max_total_sequence_length {config.max_total_sequence_length}"
    else:
        window = f" behind sliding_window_size {config.sliding_window_size}" if config.sliding_window_size != -1 else ""
        cache = f"context_window_size {config.context_window_size} x max_batch_size {config.max_batch_size}{window}"
    return f"the KV cache of {cache} needs {_size(needed.kv_cache_bytes)}, in all {_size(needed.total_bytes)}"


def _size(nbytes: int) -> str:
    return f"{nbytes / 2**30:,.2f} GiB" if nbytes >= 2**30 else f"{nbytes / 2**20:.1f} MiB"
