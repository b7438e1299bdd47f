"""What weights a row was measured with: its name in figures, its place among the others, its colour."""

import re
from collections.abc import Mapping
from typing import Any

from kvscape.report.theme import QUANTIZATION_COLOURS

# Hugging Face's own, and what was rounded in its memory, in the hue of the format of ours that it stands beside.
_COLOURS: Mapping[str, str] = {
    "fp32": "#aa9f77",
    "fp16": "#d9c05c",
    "bf16": "#e3cf85",
    "8bit": "#6fb57a",
    "fake_q8": "#93cc9b",
    "4bit": "#f29aa5",
    "fake_q4": "#f4b3bb",
    "fake_q4a": "#99c6ea",
    "fake_q3": "#cc7eb4",
    **QUANTIZATION_COLOURS,
}
# From many bits to few, what is compared side by side.
_ORDER = (
    "fp32", "q0f32", "fp16", "bf16", "q0f16", "8bit", "fake_q8", "q8f32_1", "q8f16_1", "q8_0", "auto", "q6_k", "q5_k_m",
    "q5_1", "q5_0", "fake_q4a", "q4af16_1", "4bit", "fake_q4", "q4f32_1", "q4f16_1", "q4_k_m", "q4_1", "q4_0",
    "fake_q3", "q3f16_1", "q3_k_m", "q2_k",
)  # fmt: skip
_OF_TRANSFORMERS: Mapping[str, str] = {"q0f32": "fp32", "q0f16": "fp16", "q0bf16": "bf16"}
_SPARE = ("#332288", "#999933", "#117733", "#882255", "#555555")
_IN_NAME = re.compile(r"q\d[a-z]*f(?:16|32)(?:_\d)?")


def weights_kind(row: Mapping[str, Any]) -> str:
    """``fp16``, ``fake_q3``, ``4bit``, ``q4f16_1``, ``q4f16_1, self`` (calibrated on that text) and so on.

    Behind ``auto`` are the codes of the file, which the name of an MLC-LLM folder says, and a float of Hugging Face's.
    """
    name, subject = str(row["quantization"]), row.get("subject") or "kvscape"
    if subject == "transformers":
        on_gpu = str(row.get("device") or "cpu").startswith("cuda")
        return _OF_TRANSFORMERS.get(name, ("fp16" if on_gpu else "fp32") if name == "auto" else name)
    found = _IN_NAME.findall(str(row.get("model") or "")) if name == "auto" else []
    return found[-1] if found else name


def in_order(kinds: set[str]) -> list[str]:
    """Kinds as they stand along an axis, calibrated ones behind plain ones; those that are not known come last."""
    place = {kind: number for number, kind in enumerate(_ORDER)}
    return sorted(kinds, key=lambda kind: (place.get(_plain(kind), len(place)), kind))


def kind_colours(kinds: list[str]) -> list[str]:
    """A colour for each, the same in every figure; a calibrated kind has the plain one's, darker."""
    others = sorted({_plain(kind) for kind in kinds} - set(_COLOURS))
    found = []
    for kind in kinds:
        plain = _plain(kind)
        colour = _COLOURS.get(plain) or _SPARE[others.index(plain) % len(_SPARE)]
        found.append(colour if plain == kind else _darker(colour))
    return found


def _plain(kind: str) -> str:
    return kind.partition(", ")[0]


def _darker(colour: str) -> str:
    parts = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return "#" + "".join(f"{round(0.6 * part):02x}" for part in parts)


def reference_rank(row: Mapping[str, Any]) -> int | None:
    """How good a reference a row is, 0 the best: floats of Hugging Face, then our own; None for rounded weights."""
    floats = ("fp32", "fp16", "bf16", "q0f32", "q0f16")
    kind = weights_kind(row)
    if kind not in floats or row.get("kv_dtype") not in (None, "f32", "f16"):
        return None
    return 2 * floats.index(kind) + (row.get("kv_dtype") != "f32")
