"""What Hugging Face transformers has of a design point; the rest is refused by name."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from kvscape.config import DesignPoint, EngineConfig
from kvscape.errors import ConfigError, near_match
from kvscape.quantization.scheme import Scheme
from kvscape.subjects.endpoint import KNOBS, check_local
from kvscape.subjects.transformers.library import check_device


@dataclass(frozen=True)
class Precision:
    """How weights are held: as floats of torch's ``dtype`` (None: f32 on a CPU, f16 on a GPU).

    Floats may be ``rounded`` to what kvscape's format of that name stands for; ``bits`` are bitsandbytes' own formats
    of every linear layer but the head, as ``load_in_4bit`` and ``load_in_8bit`` have them.
    """

    dtype: str | None = None
    rounded: str | None = None
    bits: int | None = None

    def dtype_on(self, device: str) -> str:
        """torch's name of the type that is computed with."""
        return self.dtype or ("float32" if device.startswith("cpu") else "float16")


QUANTIZATIONS: Mapping[str, Precision] = MappingProxyType(
    {
        "auto": Precision(),
        "q0f32": Precision("float32"),
        "q0f16": Precision("float16"),
        "q0bf16": Precision("bfloat16"),
        "fake_q8": Precision(rounded="q8f16_1"),
        "fake_q4a": Precision(rounded="q4af16_1"),
        "fake_q4": Precision(rounded="q4f16_1"),
        "fake_q3": Precision(rounded="q3f16_1"),
        "8bit": Precision(bits=8),
        "4bit": Precision(bits=4),
    }
)
KV_BYTES: Mapping[str, int] = MappingProxyType({"f16": 2, "f32": 4})

_KNOBS = (
    "quantization",
    "embedding_quantization",
    "device",
    "context_window_size",
    "prefill_chunk_size",
    "max_batch_size",
    "kv_dtype",
    "threads",
)
_LACKED = (
    "max_total_sequence_length",
    "sliding_window_size",
    "attention_sink_size",
    "page_size",
    "mixed_chunk_size",
    "prompt_lookup_tokens",
)
LACKED = (*_LACKED, *KNOBS, "calibrate", "activation")  # products take floats, whatever it says
# What is asked is no knob: a point that asks for it is refused, never run as another workload.
_TOGETHER = ("num_requests", "request_rate")


def check_point(point: DesignPoint) -> None:
    """Raise ConfigError or DeviceError for a name, a knob or a device that transformers does not have here."""
    check_local(point)
    build, kv_dtype = point.build, point.engine.kv_dtype
    if build.quantization not in QUANTIZATIONS:
        raise _unknown(build.quantization)
    _check_embedding(build.quantization, build.embedding_quantization)
    if kv_dtype not in KV_BYTES:
        why = "its cache holds floats"
        raise ConfigError(f"transformers has no KV precision {kv_dtype}", why, f"use {' or '.join(KV_BYTES)}")
    for name, value in _set(point):
        raise ConfigError(
            f"transformers has no {name} = {value}", f"its knobs are {', '.join(_KNOBS)}", f"leave {name} out"
        )
    check_device(build.device)


def _check_embedding(quantization: str, embedding: str | None) -> None:
    rounded = QUANTIZATIONS[quantization].rounded
    if embedding is not None and rounded is None:
        why = f"{quantization} rounds no embedding"
        raise ConfigError("transformers: embedding_quantization", why, "name a fake_q... quantization too")
    Scheme(rounded or "auto", embedding)


def _unknown(name: str) -> ConfigError:
    """kvscape's own name of a format is not one here: its weights would be rounded, and computed with as floats."""
    fakes = [fake for fake, precision in QUANTIZATIONS.items() if precision.rounded == name]
    do = f"use {fakes[0]}" if fakes else near_match(name, QUANTIZATIONS)
    return ConfigError(f"transformers has no quantization {name!r}", "", do)


def _set(point: DesignPoint) -> Iterator[tuple[str, object]]:
    """Parameters that transformers lacks and that are not what they are by default."""
    if point.build.calibrate is not None:
        yield "calibrate", point.build.calibrate
    for name in _LACKED:
        if getattr(point.engine, name) != getattr(EngineConfig, name):
            yield name, getattr(point.engine, name)
    for name in _TOGETHER:
        if (asked := getattr(point.workload, name)) is not None:
            yield name, asked
