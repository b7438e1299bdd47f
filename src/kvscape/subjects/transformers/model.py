"""A transformers model with the weights of a build."""

from typing import Any

import numpy as np

from kvscape.config import BuildConfig
from kvscape.errors import WeightsError
from kvscape.models.registry import find_architecture
from kvscape.quantization.arrays import F32
from kvscape.subjects.transformers.library import find_library, torch_device
from kvscape.subjects.transformers.names import QUANTIZATIONS
from kvscape.subjects.transformers.rounding import quantize_linears, round_weights
from kvscape.subjects.transformers.source import own_folder
from kvscape.weights.hf_config import hf_config
from kvscape.weights.hf_mapping import hf_parts, norm_offset
from kvscape.weights.source import Source


def load_model(source: Source, build: BuildConfig) -> Any:
    """Return the model on the build's device, for inference.

    transformers reads a Hugging Face folder by itself; of any other file it gets the values that kvscape reads.
    Raises WeightsError when a tensor is missing or left over, DeviceError where bitsandbytes is needed and cannot run.
    """
    precision, torch = QUANTIZATIONS[build.quantization], find_library().torch
    with torch.no_grad():
        model = _loaded(source, getattr(torch, precision.dtype_on(build.device)))
        if precision.rounded is not None:
            round_weights(model, precision.rounded, build.embedding_quantization)
        if precision.bits is not None:
            quantize_linears(model, precision.bits, torch_device(build.device))
    return model.to(torch_device(build.device)).eval()


def _loaded(source: Source, dtype: Any) -> Any:
    kind = getattr(find_library().transformers, find_architecture(source.config.model_type).name)
    # Only the plain attention knows soft caps.
    attention = "sdpa" if source.config.attn_logit_softcapping is None else "eager"
    options = {"dtype": dtype, "attn_implementation": attention, "output_loading_info": True}
    if (folder := own_folder(source)) is not None:
        model, report = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, **options)
    else:
        # Phi-3's own padding token need not be in the vocabulary, and nothing is padded with it here.
        config = kind.config_class.from_dict({**hf_config(source.config), "pad_token_id": None})
        state = {name: find_library().torch.from_numpy(array).to(dtype) for name, array in _state(source).items()}
        model, report = kind.from_pretrained(None, config=config, state_dict=state, **options)
    _check(source.name, report)
    return model


def _state(source: Source) -> dict[str, F32]:
    """The weights by Hugging Face's names."""
    parts, state = hf_parts(source.config), dict[str, F32]()
    for name, tensor in source.stream():
        values = tensor.values() - np.float32(norm_offset(source.config, name))
        ends = np.cumsum([part.shape[0] for part in parts[name]])[:-1]
        for part, rows in zip(parts[name], np.split(values, ends), strict=True):
            state[part.name] = rows
    return state


def _check(name: str, report: dict[str, Any]) -> None:
    for fault in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if found := sorted(map(str, report[fault])):
            why = f"{fault.replace('_', ' ')}: {', '.join(found[:5])}"
            raise WeightsError(f"transformers cannot load {name}", why, "use another file of this model")
