"""The device's half of a library for WebGPU: the shaders that its host functions launch."""

import json
from collections.abc import Iterable
from typing import Any

from tvm import tirx

from kvscape.artifact.shaders import Shader, Shaders
from kvscape.compiler.kernels.webgpu.host import SHADERS


def library_shaders(mod: Any) -> Shaders:
    """What the host functions of ``mod`` launch."""
    return shaders_of(function for _, function in mod.functions_items())


def shaders_of(functions: Iterable[Any]) -> Shaders:
    """What these host functions launch."""
    kernels = [each for each in functions if isinstance(each, tirx.PrimFunc) and each.attrs]
    texts = [str(each.attrs[SHADERS]) for each in kernels if SHADERS in each.attrs]
    return Shaders.named(Shader.from_json(raw) for text in texts for raw in json.loads(text))
