"""A model as one Relax module: ``forward_<kv>`` for each KV precision, and what is asked of its logits."""

from collections.abc import Mapping, Sequence
from typing import Any

import tvm
from tvm import relax
from tvm.relax.frontend import nn

from kvscape.config import KVPrecision, ModelConfig
from kvscape.models import find_model
from kvscape.models.layers import Weights
from kvscape.models.ops import call, placeholder
from kvscape.models.step import step_spec
from kvscape.quantization.layouts import Layout

_PLAIN = {"param_mode": "packed", "effect_mode": "none"}
_NO_STATE = {"param_mode": "none", "effect_mode": "none"}


class Choices(nn.Module):  # type: ignore[misc]
    """What is asked of logits: log-probabilities, the likeliest tokens, those that are drawn, and edited rows."""

    def logprobs(self, logits: Any, token_ids: Any) -> Any:
        return call("logprobs", [logits, token_ids], placeholder([logits.shape[0]]))

    def greedy(self, logits: Any, token_ids: Any) -> Any:
        return call("greedy", [logits, token_ids], token_ids)

    def sample(self, logits: Any, draws: Any, token_ids: Any) -> Any:
        return call("sample", [logits, draws, token_ids], token_ids)

    def edit(self, logits: Any, rows: Any, changes: Any, masks: Any, edited: Any) -> Any:
        return call("edit", [logits, rows, changes, masks, edited], edited)

    def token_logprobs(self, logits: Any, asked: Any, found: Any) -> Any:
        return call("token_logprobs", [logits, asked, found], found)


def export_model(
    config: ModelConfig, formats: Mapping[str, str], layout: Layout, kv_dtypes: Sequence[str], draw_ints: int = 0
) -> tuple[Any, list[str]]:
    """Return the module and the names of ``forward``'s packed parameters, in order.

    ``draw_ints`` is how many numbers say how a token is drawn; 0 leaves out all that not every device does.
    """
    functions, names = {}, []
    for precision in map(KVPrecision.parse, kv_dtypes):
        model = find_model(config.model_type)(config, Weights(formats, layout), precision)
        mod, parameters = model.export_tvm({"forward": {**step_spec(len(config.layer_groups)), "$": _PLAIN}})
        functions[f"forward_{precision.identifier}"] = mod["forward"]
        names = [name for name, _ in parameters]
    return _module({**functions, **_choices(config, draw_ints)}), names


def _choices(config: ModelConfig, draw_ints: int) -> dict[str, Any]:
    logits, token_ids = nn.spec.Tensor(["r", config.vocab_size], "float32"), nn.spec.Tensor(["r"], "int32")
    spec = {
        "logprobs": {"logits": logits, "token_ids": token_ids, "$": _NO_STATE},
        "greedy": {"logits": logits, "token_ids": token_ids, "$": _NO_STATE},
    }
    if draw_ints:
        spec |= _drawing(config.vocab_size, draw_ints)
    mod, _ = Choices().export_tvm(spec)
    return {name: mod[name] for name in spec}


def _drawing(vocab_size: int, draw_ints: int) -> dict[str, Any]:
    """What kernels/cuda/choices.py says of each."""

    def ints(*shape: int | str) -> Any:
        return nn.spec.Tensor(list(shape), "int32")

    logits, edited = (nn.spec.Tensor([rows, vocab_size], "float32") for rows in ("r", "c"))
    edits = {"rows": ints("c", 4), "changes": ints("e", 4), "masks": ints("m", -(-vocab_size // 32)), "edited": edited}
    return {
        "sample": {"logits": logits, "draws": ints("c", draw_ints), "token_ids": ints("c"), "$": _NO_STATE},
        "edit": {"logits": logits, **edits, "$": _NO_STATE},
        "token_logprobs": {"logits": logits, "asked": ints("c", 2), "found": ints("c", "width"), "$": _NO_STATE},
    }


def _module(functions: Mapping[str, Any]) -> Any:
    builder = relax.BlockBuilder()
    for name, function in functions.items():
        builder.add_func(function.with_attr("global_symbol", name), name)
    return tvm.IRModule(builder.get().functions)
