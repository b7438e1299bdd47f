"""THE ordered list of passes, from a model's operators to the virtual machine's instructions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tvm.ir.transform import PassContext
from tvm.relax import transform

from kvscape.compiler.passes.dispatch_kernels import Dispatch, DispatchKernels, whole_function
from kvscape.compiler.passes.fuse_gates import FuseGates
from kvscape.compiler.passes.fuse_quantize import FuseQuantize
from kvscape.compiler.passes.halve_activations import HalveActivations
from kvscape.compiler.passes.memory_usage import MemoryUsage
from kvscape.compiler.passes.quantize_activations import QuantizeActivations
from kvscape.compiler.passes.return_logits import ReturnLogits
from kvscape.compiler.passes.scratch_argument import ScratchArgument
from kvscape.compiler.passes.share_tensors import ShareTensors
from kvscape.compiler.stand_ins import StandIns

# Hand-written kernels have no buffer that could be smaller, and looking for one takes longer than all else.
_NEEDLESS = ["s_tir.CompactBufferAllocation"]

Pass = Callable[[Any], Any]


def rounding(activation: str) -> list[tuple[str, Pass]]:
    """The passes that let products read what they read: floats, f16 numbers or 8-bit codes."""
    if activation == "int8":
        return [("QuantizeActivations", QuantizeActivations()), ("FuseQuantize", FuseQuantize())]
    if activation == "float16":
        return [("HalveActivations", HalveActivations())]
    return []


def pipeline(
    dispatch: Dispatch,
    activation: str,
    usage: MemoryUsage,
    metadata: Pass,
    stand_ins: StandIns | None = None,
    scratch_argument: bool = False,
    gated_dtype: str = "",
) -> list[tuple[str, Pass]]:
    """Return the named passes in order; a comment gives the reason where the order matters.

    With ``stand_ins`` the kernels stay out of the module; with ``scratch_argument`` the caller gives scratch memory;
    products that have gates inside write ``gated_dtype``, "" where there are none.
    """
    return [
        # Rewrites of operators come first: after DispatchKernels there are only kernels.
        *rounding(activation),
        # ... and their gates, whose type is known now.
        *([("FuseGates", FuseGates(gated_dtype))] if gated_dtype else []),
        ("DispatchKernels", DispatchKernels(dispatch, stand_ins.make if stand_ins else whole_function)),
        ("DeadCodeElimination", transform.DeadCodeElimination()),
        ("ToNonDataflow", transform.ToNonDataflow()),
        ("RemovePurityChecking", transform.RemovePurityChecking()),
        # Results become explicit allocations, ...
        ("CallTIRRewrite", transform.CallTIRRewrite()),
        ("ReturnLogits", ReturnLogits()),
        # ... without the tuples that kernels with several results had, ...
        ("CanonicalizeBindings", transform.CanonicalizeBindings()),
        ("DeadCodeElimination", transform.DeadCodeElimination()),
        # ... which share storages, ...
        ("StaticPlanBlockMemory", transform.StaticPlanBlockMemory()),
        ("LowerAllocTensor", transform.LowerAllocTensor()),
        # ... and tensors, which all layers have in common, ...
        ("ShareTensors", ShareTensors()),
        # ... whose sizes are now known as formulas.
        ("MemoryUsage", usage),
        ("AttachMetadata", metadata),
        # Nobody allocates them one by one where the caller gives them all.
        *([("ScratchArgument", ScratchArgument())] if scratch_argument else []),
        ("KillAfterLastUse", transform.KillAfterLastUse()),
        ("LowerRuntimeBuiltin", transform.LowerRuntimeBuiltin()),
        ("ComputePrimValue", transform.ComputePrimValue()),
        ("VMShapeLower", transform.VMShapeLower()),
        # No pass after this one asks what a call is of.
        *([("CallKernelsByName", stand_ins.call_by_name)] if stand_ins else []),
        ("AttachGlobalSymbol", transform.AttachGlobalSymbol()),
    ]


def run_pipeline(mod: Any, passes: list[tuple[str, Pass]], dump: Path | None = None) -> Any:
    """Apply the passes; with ``dump``, write the module after each as ``NN-Name.py``."""
    for number, (name, apply) in enumerate([("Input", _unchanged), *passes]):
        mod = apply(mod)
        if dump is not None:
            dump.mkdir(parents=True, exist_ok=True)
            (dump / f"{number:02d}-{name}.py").write_text(mod.script(show_meta=False), encoding="utf-8")
    return mod


def _unchanged(mod: Any) -> Any:
    return mod


def lowering() -> Any:
    """The context in which TVM lowers kernels to machine code."""
    return PassContext(disabled_pass=_NEEDLESS)
