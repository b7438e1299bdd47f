"""GGML's codes in our own arrays, rounded again only where no format of ours has them.

Exact are Q4_0 and Q4_1 in q4af16_1, and Q5_0, Q8_0, IQ4_NL and Q3_K in q8f16_1: each of their weights is a whole number
times a block's f16 scale. Q4_K keeps its codes; the products that are its groups' scales and minima are rounded to
f16. The others are rounded to 8 bits.
"""

import numpy as np

from kvscape.quantization.arrays import F16, F32, U8, Array, Mask, row_blocks
from kvscape.quantization.codes import pack_codes
from kvscape.quantization.encode import encode
from kvscape.quantization.format import Format
from kvscape.quantization.ggml import GgmlType, blocks, constants, finite, values

_GROUP = 32
_WHOLE_MULTIPLES = ("Q5_0", "Q8_0", "IQ4_NL", "Q3_K")


def keeps_codes(raw: U8, kind: GgmlType) -> bool:
    """Say whether ``kept`` changes no value. q8f16_1 has not the code -128 of Q8_0, nor 128, which Q3_K can spell."""
    if kind.name in _WHOLE_MULTIPLES:
        return not _beyond(_multiples(raw, kind)[0]).any()
    return kind.name in ("F32", "F16", "Q4_0", "Q4_1")


def kept(raw: U8, kind: GgmlType) -> dict[str, Array]:
    """Return rows of blocks [N, bytes] as the arrays of ``kind.keeps``, code for code where it has them.

    Groups with a code that it has not are rounded to a new scale. Raises WeightsError if a scale is not finite.
    """
    if kind.keeps.is_float:
        if kind.name == "BF16":
            return encode(values(raw, kind), kind.keeps)
        return {"weight": np.ascontiguousarray(raw).view(f"<f{kind.block_bytes}").copy()}
    rows, columns = len(raw), raw.shape[-1] // kind.block_bytes * kind.block_size
    arrays = {name: np.empty(shape, dtype) for name, (dtype, shape) in kind.keeps.shapes((rows, columns)).items()}
    for rows_here in row_blocks(rows, columns):
        for name, part in _kept_rows(raw[rows_here], kind).items():
            arrays[name][rows_here] = part
    return arrays


def _kept_rows(raw: U8, kind: GgmlType) -> dict[str, Array]:
    if kind.name in _WHOLE_MULTIPLES:
        return _kept_multiples(raw, kind)
    if kind.name in ("Q4_0", "Q4_1", "Q4_K"):
        scale, minimum = _constants_q4_k(raw, kind) if kind.name == "Q4_K" else _constants_q4(raw, kind)
        return {"q_weight": _words(_codes(raw, kind), kind.keeps), "q_scale": scale, "q_min": minimum}
    return encode(values(raw, kind), kind.keeps)


def _constants_q4(raw: U8, kind: GgmlType) -> tuple[F16, F16]:
    scale = constants(raw, kind, 0)
    if kind.name == "Q4_1":
        return scale, constants(raw, kind, 1)
    with np.errstate(over="ignore"):
        return scale, finite(scale * np.float16(-8))  # exact: a power of two


def _constants_q4_k(raw: U8, kind: GgmlType) -> tuple[F16, F16]:
    """The scales and minima of groups: two f16 of the block times 8 pairs of 6 bits, in 12 bytes."""
    packed = blocks(raw, kind)[..., 4:16]
    first, second, rest = packed[..., 0:4], packed[..., 4:8], packed[..., 8:12]
    scales = np.concatenate([first & 63, (rest & 15) | (first >> 6 << 4)], -1).astype(np.float32)
    minima = np.concatenate([second & 63, (rest >> 4) | (second >> 6 << 4)], -1).astype(np.float32)
    products = (
        constants(raw, kind, 0)[..., None].astype(np.float32) * scales,
        -constants(raw, kind, 1)[..., None].astype(np.float32) * minima,
    )
    with np.errstate(over="ignore"):
        scale, minimum = (finite(product.astype(np.float16)).reshape(len(raw), -1) for product in products)
    return scale, minimum


def _codes(raw: U8, kind: GgmlType) -> U8:
    """4-bit codes [N, groups, 32]; in a block of 256, 32 bytes hold the codes of two groups."""
    octets = blocks(raw, kind)[..., {"Q4_0": 2, "Q4_1": 4, "Q4_K": 16}[kind.name] :]
    if kind.name == "Q4_K":
        octets = octets.reshape(len(raw), -1, _GROUP)
        return np.stack([octets & 15, octets >> 4], axis=-2).reshape(len(raw), -1, _GROUP)
    return np.concatenate([octets & 15, octets >> 4], axis=-1)


def _kept_multiples(raw: U8, kind: GgmlType) -> dict[str, Array]:
    multiples, scale = _multiples(raw, kind)
    beyond, fmt = _beyond(multiples), kind.keeps
    # What is out of range wraps around here; its groups are rounded below.
    codes = (multiples + np.float32(fmt.max_int)).astype(np.int16).astype(np.uint8)
    arrays: dict[str, Array] = {"q_weight": _words(codes, fmt), "q_scale": scale}
    if beyond.any():
        rounded = encode(values(raw, kind).reshape(-1, _GROUP)[beyond.ravel()], fmt)
        arrays["q_scale"][beyond] = rounded["q_scale"][:, 0]
        arrays["q_weight"].reshape(*beyond.shape, -1)[beyond] = rounded["q_weight"]
    return arrays


def _multiples(raw: U8, kind: GgmlType) -> tuple[F32, F16]:
    """Whole numbers [N, groups, 32] and their scales [N, groups]. The products are exact in f32, so quotients are."""
    scale = np.repeat(constants(raw, kind, 0), kind.block_size // _GROUP, axis=-1)
    if kind.name == "Q8_0":
        return blocks(raw, kind)[..., 2:].view(np.int8).astype(np.float32), scale
    products = values(raw, kind).reshape(len(raw), -1, _GROUP)
    divisor = scale.astype(np.float32)[..., None]
    return np.divide(products, divisor, out=np.zeros_like(products), where=divisor != 0), scale


def _beyond(multiples: F32) -> Mask:
    """Groups [N, groups] with a number that q8f16_1 has no code for."""
    beyond: Mask = np.abs(multiples).max(-1) > 127
    return beyond


def _words(codes: U8, fmt: Format) -> Array:
    return pack_codes(codes.reshape(len(codes), -1), fmt)
