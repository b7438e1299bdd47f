"""Whether a tensor cache holds what a model needs: every tensor, of its shape and type, and nothing else."""

from collections.abc import Mapping

from kvscape.config import ModelConfig
from kvscape.errors import WeightsError
from kvscape.quantization.format import Format
from kvscape.weights.canonical import canonical_shapes
from kvscape.weights.mlc_names import mlc_parts
from kvscape.weights.readers.tensor_cache import CachedTensor

_FLOATS = ("float32", "float16", "bfloat16")


def stored_names(tensors: Mapping[str, CachedTensor], name: str) -> dict[str, str]:
    """Return the full names of what MLC stores of a tensor: ``weight``, or ``q_weight`` and ``q_scale``."""
    if name.endswith(".bias"):
        return {"weight": name}
    if f"{name}.q_weight" in tensors:
        return {"q_weight": f"{name}.q_weight", "q_scale": f"{name}.q_scale"}
    return {"weight": f"{name}.weight"}


def check_tensors(tensors: Mapping[str, CachedTensor], config: ModelConfig, quantized: Format) -> None:
    """Raise WeightsError with a list of the tensors that are missing, left over, or of another shape or type."""
    wanted: dict[str, tuple[int, ...]] = {}
    codes: set[str] = set()
    for name, shape in canonical_shapes(config).items():
        parts = mlc_parts(config, name, shape[0])
        if len({tuple(stored_names(tensors, part)) == ("weight",) for part, _ in parts}) > 1:
            raise WeightsError(f"tensor {name}", "only some of its parts are quantized", "use another model")
        for part, rows in parts:
            stored, size = stored_names(tensors, part), (rows, *shape[1:])
            if "weight" in stored:
                wanted[stored["weight"]] = size
            elif len(shape) == 1 or quantized.is_float:
                raise WeightsError(f"tensor {part!a}", "it is quantized, and should not be", "use another model")
            else:
                sizes = quantized.shapes(size)
                wanted |= {stored[what]: sizes[what][1] for what in stored}
                codes.add(stored["q_weight"])
    problems = {
        "missing": sorted(wanted.keys() - tensors.keys()),
        "left over": sorted(tensors.keys() - wanted.keys()),
        "of another shape": [
            f"{name} is {tensors[name].shape}, not {shape}"
            for name, shape in wanted.items()
            if name in tensors and tensors[name].shape != shape
        ],
        "of another type": [
            f"{name} is {tensors[name].dtype}"
            for name in wanted
            if name in tensors and (tensors[name].dtype == "uint32") != (name in codes)
        ],
    }
    why = "; ".join(f"{what}: {', '.join(names)}" for what, names in problems.items() if names)
    if why:
        raise WeightsError("the folder's tensors are not the model's", why, "use another copy of this model")
