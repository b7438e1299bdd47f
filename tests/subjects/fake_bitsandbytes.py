"""The layers of bitsandbytes that are used, without its kernels: what they are given is what they hold."""

from typing import Any

import torch

BROKEN = "no kernel for this device"


class Params(torch.nn.Parameter):  # type: ignore[misc]  # torch has no types here
    """Codes that are floats still."""

    def __new__(cls, data: Any, requires_grad: bool = False, **kept: Any) -> "Params":
        made: Params = torch.Tensor._make_subclass(cls, data, requires_grad)
        made.kept = kept
        return made


class Layer(torch.nn.Linear):  # type: ignore[misc]
    """``asked`` is what it was made with; a layer of a broken installation cannot be moved."""

    broken = False

    def __init__(self, inputs: int, outputs: int, bias: bool, device: str, **asked: Any) -> None:
        super().__init__(inputs, outputs, bias, device=device)
        self.asked = asked

    def to(self, device: str) -> "Layer":
        if self.broken:
            raise RuntimeError(BROKEN)
        return self


class FakeBitsAndBytes:
    """The module ``bitsandbytes``."""

    def __init__(self, broken: bool = False) -> None:
        layer = type("FakeLayer", (Layer,), {"broken": broken})
        self.nn = type(
            "nn", (), {"Linear4bit": layer, "Linear8bitLt": layer, "Params4bit": Params, "Int8Params": Params}
        )
