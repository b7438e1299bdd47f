"""A KV cache of transformers in a precision of its own."""

import inspect
from functools import cache
from typing import Any

from kvscape.subjects.transformers.library import find_library


def new_cache(model: Any, dtype: Any) -> Any:
    """An empty ``DynamicCache`` for a model, which keeps keys and values as ``dtype``."""
    return _cache_class()(dtype, config=model.config)


@cache
def _cache_class() -> Any:
    base: Any = find_library().transformers.DynamicCache

    class KeptAs(base):  # type: ignore[misc]  # torch is imported when it is used: the base is not known before
        """Keys and values are rounded when they are stored, and computed with as the model computes."""

        def __init__(self, dtype: Any, **options: Any) -> None:
            super().__init__(**options)
            self._kept_as = dtype

        def update(self, keys: Any, values: Any, layer: int, *rest: Any, **options: Any) -> tuple[Any, Any]:
            kept = (keys.to(self._kept_as), values.to(self._kept_as))
            found = super().update(*kept, layer, *rest, **options)
            return found[0].to(keys.dtype), found[1].to(values.dtype)

    return KeptAs


def argument_name(model: Any) -> str:
    """What a model calls its cache: transformers renamed it in 5.24."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def cache_bytes(kv_cache: Any) -> int:
    """Bytes of the tensors that are allocated."""
    tensors = [t for layer in kv_cache.layers if layer.is_initialized for t in (layer.keys, layer.values)]
    return sum(int(tensor.untyped_storage().nbytes()) for tensor in tensors)
