"""Compile a converted model for one target, and write the library whole or not at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tvm import relax, tirx
from tvm.target import Target

from kvscape.analysis.memory import Workspace
from kvscape.artifact import LibraryMetadata
from kvscape.compiler.backend import find_backend
from kvscape.compiler.cuda_target import CudaTarget
from kvscape.compiler.export import export_model
from kvscape.compiler.kernel_objects import dump_kernels, kernel_objects
from kvscape.compiler.key import library_key
from kvscape.compiler.object_cache import ObjectCache, kernel_cache
from kvscape.compiler.passes.attach_metadata import AttachMetadata
from kvscape.compiler.passes.memory_usage import MemoryUsage
from kvscape.compiler.pipeline import lowering, pipeline, run_pipeline
from kvscape.compiler.stand_ins import StandIns
from kvscape.compiler.target import Target as AnyTarget
from kvscape.compiler.write import write_library
from kvscape.config import KV_DTYPES, KVPrecision, ModelConfig
from kvscape.errors import UnsupportedModelError
from kvscape.version import __version__


@dataclass(frozen=True)
class LibrarySpec:
    """All that decides a library."""

    model: ModelConfig
    formats: Mapping[str, str]
    target: AnyTarget
    activation: str = "int8"
    overrides: Mapping[str, int] = field(default_factory=dict)
    kv_dtypes: tuple[str, ...] = KV_DTYPES

    @property
    def key(self) -> str:
        return library_key(self.model, self.formats, self.target, self.activation, self.overrides, self.kv_dtypes)


def compile_library(
    spec: LibrarySpec, output: Path, dump: Path | None = None, cache: ObjectCache | None = None
) -> None:
    """Compile ``spec`` into ``output`` (``.tar`` of objects, or for a CPU ``.so`` where a C compiler is found).

    ``dump`` is a folder that gets the module after each pass, and under ``kernels`` what is compiled apart from it;
    ``cache`` has the kernels of earlier libraries, by default the user's.
    """
    backend = find_backend(spec.target)
    check_sizes(spec.model, backend.multiples)
    draw_ints = backend.draw_ints(spec.model.vocab_size)
    mod, parameters = export_model(spec.model, spec.formats, spec.target.layout, spec.kv_dtypes, draw_ints)
    usage = MemoryUsage()
    metadata = AttachMetadata(lambda lowered: _describe(spec, parameters, usage, lowered).to_json())
    stand_ins = None if backend.device_code else StandIns()
    dispatch, given = backend.dispatch, backend.scratch_is_given
    passes = pipeline(dispatch, spec.activation, usage, metadata, stand_ins, given, backend.gated_dtype)
    mod = run_pipeline(mod, passes, dump)
    with lowering():
        executable = relax.build(mod, Target(dict(spec.target.tvm)), relax_pipeline=None)
    if dump is not None and stand_ins:
        dump_kernels(stand_ins.kernels, dump / "kernels")
    objects = kernel_objects(stand_ins.kernels, spec.target, cache or kernel_cache()) if stand_ins else {}
    write_library(executable, output, backend.device_code(mod) if backend.device_code else None, objects)


def check_sizes(model: ModelConfig, multiples: Sequence[tuple[str, int]]) -> None:
    """Raise UnsupportedModelError for sizes that the kernels cannot take."""
    for name, multiple in multiples:
        if getattr(model, name) % multiple:
            raise UnsupportedModelError(
                f"{name} = {getattr(model, name)}", f"the kernels take {multiple} values at once", "use another model"
            )


def _describe(spec: LibrarySpec, parameters: list[str], usage: MemoryUsage, mod: Any) -> LibraryMetadata:
    backend = find_backend(spec.target)
    kernels = [g.name_hint for g, function in mod.functions_items() if isinstance(function, tirx.PrimFunc)]
    return LibraryMetadata(
        key=spec.key,
        target=spec.target.name,
        layout=spec.target.layout.name,
        activation=spec.activation,
        model=spec.model,
        tensor_formats=dict(spec.formats),
        param_names=tuple(parameters),
        kv_dtypes=spec.kv_dtypes,
        query_tile_tokens=backend.tile_tokens(spec.model.group_size),
        key_range_tokens=backend.range_tokens,
        page_size_multiple=backend.page_size_multiple,
        kernels=tuple(sorted(kernels)),
        workspaces={kv: _workspace(spec, usage, kv) for kv in spec.kv_dtypes},
        kvscape_version=__version__,
        tvm_version=version("apache-tvm"),
        overrides=dict(spec.overrides),
    )


def _workspace(spec: LibrarySpec, usage: MemoryUsage, kv_dtype: str) -> Workspace:
    """A forward pass's scratch memory. On a processor the few tiles with sums of their own do not count."""
    backend, plan = find_backend(spec.target), usage.workspaces[f"forward_{KVPrecision.parse(kv_dtype).identifier}"]
    if not isinstance(spec.target, CudaTarget):
        return replace(plan, bytes_per_tile=0)
    tile_tokens = backend.tile_tokens(spec.model.group_size)
    return replace(plan, tile_tokens=tile_tokens, range_tokens=backend.range_tokens, on_gpu=True)
