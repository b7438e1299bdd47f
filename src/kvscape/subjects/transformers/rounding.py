"""Weights rounded in memory: to what one of kvscape's formats stands for, or to bitsandbytes' own."""

from importlib import import_module
from typing import Any

import numpy as np

from kvscape.errors import DeviceError
from kvscape.quantization.decode import decode
from kvscape.quantization.encode import encode
from kvscape.quantization.format import FORMATS
from kvscape.quantization.scheme import Scheme
from kvscape.subjects.transformers.library import find_library

_BITSANDBYTES = "bitsandbytes"


def round_weights(model: Any, quantization: str, embedding_quantization: str | None) -> None:
    """Put in place of every matrix what it is after ``quantization``: the codes are those of ``kvscape convert``.

    The embedding and the head are rounded too, as kvscape and MLC-LLM do it.
    """
    scheme, torch = Scheme(quantization, embedding_quantization), find_library().torch
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            shape = tuple(parameter.shape)
            fmt = scheme.format_of(name.removesuffix(".weight"), shape, FORMATS["f32"])
            values = parameter.detach().float().numpy().astype(np.float32)
            parameter.copy_(torch.from_numpy(decode(encode(values, fmt), fmt, shape[1])))


def quantize_linears(model: Any, bits: int, device: str) -> None:
    """Put bitsandbytes' layers of 4 bits (NF4) or 8 bits (LLM.int8) in place of every linear layer but the head.

    Raises DeviceError where bitsandbytes is not installed or does not run on the device.
    """
    layers, linear, head = _layers(), find_library().torch.nn.Linear, model.get_output_embeddings()
    found = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, linear) and layer is not head]
    try:
        for name, layer in found:
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, _quantized(layers, layer, bits).to(device))
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        raise DeviceError(f"bitsandbytes cannot round to {bits} bits on {device}", str(error), _OTHERWISE) from None


def _layers() -> Any:
    try:
        return import_module(_BITSANDBYTES).nn
    except (ImportError, OSError, RuntimeError) as error:
        how = f"pip install {_BITSANDBYTES}, or {_OTHERWISE}"
        raise DeviceError(f"{_BITSANDBYTES} cannot run here", f"it is missing ({error})", how) from None


def _quantized(layers: Any, linear: Any, bits: int) -> Any:
    sizes, bias = (linear.in_features, linear.out_features), linear.bias is not None
    if bits == 4:
        made = layers.Linear4bit(*sizes, bias, compute_dtype=linear.weight.dtype, quant_type="nf4", device="meta")
        made.weight = layers.Params4bit(
            linear.weight.data, requires_grad=False, compress_statistics=False, quant_type="nf4", module=made
        )
    else:
        made = layers.Linear8bitLt(*sizes, bias, has_fp16_weights=False, threshold=6.0, device="meta")
        made.weight = layers.Int8Params(linear.weight.data, requires_grad=False, has_fp16_weights=False)
    made.bias = linear.bias
    return made


def scales_bytes(model: Any) -> int:
    """Bytes of the scales that bitsandbytes keeps beside its codes, with the weight or with the layer."""
    found = [scales for layer in model.modules() if (scales := _scales(layer)) is not None]
    return sum(int(scales.nbytes) for scales in found)


def _scales(layer: Any) -> Any:
    if (of_4_bits := getattr(layer, "quant_state", None)) is not None:
        return of_4_bits.absmax
    of_8_bits = getattr(getattr(layer, "weight", None), "SCB", None)
    return getattr(getattr(layer, "state", None), "SCB", None) if of_8_bits is None else of_8_bits


_OTHERWISE = "use fake_q4 or fake_q8"
