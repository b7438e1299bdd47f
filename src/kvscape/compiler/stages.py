"""Compile the stages of a model's layers (``models.stages``) for calibration: one library, whatever the depth."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tvm import relax, tirx
from tvm.relax import transform
from tvm.relax.frontend import nn
from tvm.target import Target

from kvscape.artifact.stages import Product, StagesMetadata, stage_name
from kvscape.compiler.backend import find_backend
from kvscape.compiler.build import check_sizes
from kvscape.compiler.kernel_objects import kernel_objects
from kvscape.compiler.object_cache import kernel_cache
from kvscape.compiler.passes.attach_metadata import AttachMetadata
from kvscape.compiler.passes.memory_usage import MemoryUsage
from kvscape.compiler.passes.operators import map_functions
from kvscape.compiler.pipeline import lowering, pipeline, run_pipeline
from kvscape.compiler.stand_ins import StandIns
from kvscape.compiler.target import CpuTarget
from kvscape.compiler.write import write_library
from kvscape.config import ModelConfig
from kvscape.models import find_model
from kvscape.models.stages import CutLayer
from kvscape.models.step import Cache, Step, step_spec


def compile_stages(config: ModelConfig, target: CpuTarget, output: Path) -> None:
    """Write the library of ``config``'s stages to ``output``."""
    backend = find_backend(target)
    check_sizes(config, backend.multiples)
    layers = [CutLayer(config, target.layout, group) for group in config.layer_groups]
    mod = map_functions(transform.DeadCodeElimination()(_export(config, layers)), _with_used_arguments)
    metadata = StagesMetadata(
        products=tuple(Product(cut.name, cut.rows, cut.columns) for cut in layers[0].cuts),
        functions={g.name_hint: tuple(p.name for p in function.params) for g, function in mod.functions_items()},
        embedding_scale=find_model(config.model_type).embedding_scale(config),  # type: ignore[attr-defined]
        query_tile_tokens=backend.tile_tokens(config.group_size),
        key_range_tokens=backend.range_tokens,
    )
    attach = AttachMetadata(lambda _: metadata.to_json())
    stand_ins = StandIns()
    mod = run_pipeline(mod, pipeline(backend.dispatch, "float32", MemoryUsage(), attach, stand_ins))
    with lowering():
        executable = relax.build(mod, Target(dict(target.llvm)), relax_pipeline=None)
    write_library(executable, output, objects=kernel_objects(stand_ins.kernels, target, kernel_cache()))


def _export(config: ModelConfig, layers: list[CutLayer]) -> Any:
    builder = relax.BlockBuilder()
    for group, layer in enumerate(layers):
        for stage in range(len(layer.cuts) + 1):
            _add_stage(builder, stage_name(group, stage), config, layer, stage)
    return builder.get()


def _add_stage(builder: Any, name: str, config: ModelConfig, layer: CutLayer, stage: int) -> None:
    """A function of all that a stage may need: hidden states, earlier products, the step and the norms' weights."""
    sizes: dict[str, Any] = {}
    x = _tensor("x", ["n", config.hidden_size], "float32", sizes)
    products = {cut.name: _tensor(cut.name, ["n", cut.rows], "float32", sizes) for cut in layer.cuts[:stage]}
    step = {key: _tensor(key, spec.shape, spec.dtype, sizes) for key, spec in _step_tensors()}
    weights = [_bound(key.removesuffix(".weight"), parameter) for key, parameter in layer.named_parameters()]
    inputs = [x, *products.values(), *step.values(), *weights]
    with builder.function(name, [tensor._expr for tensor in inputs]):
        with builder.dataflow():
            results = layer(x, *_step(step), products)
            output = builder.emit_output(relax.Tuple([result._expr for result in results]))
        builder.emit_func_output(output)


def _step_tensors() -> Iterator[tuple[str, Any]]:
    """Of the arguments of a model with one layer group."""
    for name, spec in step_spec(1).items():
        yield name, spec[0] if isinstance(spec, tuple) else spec


def _step(arguments: Mapping[str, Any]) -> tuple[Step, Cache]:
    named = dict(arguments)
    seen = named.pop("seen")
    cache = Cache(*(named.pop(name) for name in _OF_GROUPS))
    return Step(**named, caches=[cache], seen=seen), cache


_OF_GROUPS = ("pools", "tails", "slots", "page_tables", "windows", "sink_positions")  # in the order of Cache's fields


def _tensor(name: str, shape: Sequence[Any], dtype: str, sizes: dict[str, Any]) -> Any:
    """A tensor that is an argument; sizes of the same name are the same."""
    for size in shape:
        if isinstance(size, str) and size not in sizes:
            sizes[size] = tirx.Var(size, "int64")
    return nn.Tensor.placeholder([sizes.get(size, size) for size in shape], dtype, name)


def _bound(name: str, parameter: Any) -> Any:
    """Let a module's parameter be an argument of the function that is being built."""
    argument = nn.Tensor.placeholder(parameter.shape, parameter.dtype, name)
    parameter._expr = argument._expr
    return argument


def _with_used_arguments(function: Any) -> Any:
    used = {variable.name for variable in relax.analysis.free_vars(function.body)}
    params = [param for param in function.params if param.name in used]
    return relax.Function(params, function.body, function.ret_ty, function.is_pure, function.attrs)
