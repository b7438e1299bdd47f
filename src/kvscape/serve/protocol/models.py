"""``/v1/models``."""

from typing import Literal

from kvscape.serve.protocol.strict import Answered


class Model(Answered):
    """What can be named as ``model``; ``max_model_len`` is the context in tokens, as other servers call it."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "kvscape"
    max_model_len: int


class ModelList(Answered):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[Model]
