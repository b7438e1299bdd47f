"""A library of a known shape without its weights, for ``gpu.py``: ``gpu_library.py llama-3-8b q4f16_1 LIBRARY.tar``.

Compiles for GPUs that need not be here, of ``--architecture``; ``wgsl`` stands for those of WebGPU.
"""

import argparse
from pathlib import Path

from kvscape.compiler.build import LibrarySpec, compile_library
from kvscape.compiler.target import find_any_target
from kvscape.quantization.format import FORMATS
from kvscape.quantization.scheme import Scheme
from kvscape.weights.canonical import canonical_shapes
from kvscape.weights.readers.random import RandomSource


def main() -> None:
    parser = argparse.ArgumentParser(description="Compile a shape for a GPU.")
    parser.add_argument("shape")
    parser.add_argument("quantization")
    parser.add_argument("library", type=Path)
    parser.add_argument("--architecture", default="sm_90")
    arguments = parser.parse_args()
    model, target = RandomSource(f"random://{arguments.shape}").config, find_any_target(arguments.architecture)
    scheme = Scheme(arguments.quantization)
    matrices = {name: shape for name, shape in canonical_shapes(model).items() if len(shape) > 1}
    formats = {name: scheme.format_of(name, shape, FORMATS["f16"]).name for name, shape in matrices.items()}
    activation, kv_dtypes = target.activation("float16"), target.library_kv_dtypes("f16")
    spec = LibrarySpec(model, formats, target, activation, kv_dtypes=kv_dtypes)
    compile_library(spec, arguments.library)


if __name__ == "__main__":
    main()
