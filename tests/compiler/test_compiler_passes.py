"""Each pass of kvscape's own: a module before, and what it must be after."""

from pathlib import Path
from typing import Any

import pytest
from tvm import ir, relax, tirx

from kvscape.analysis.memory import Workspace
from kvscape.compiler.kernels.cpu.gated import swiglu
from kvscape.compiler.kernels.kernel import Kernel, Operator
from kvscape.compiler.passes.attach_metadata import AttachMetadata
from kvscape.compiler.passes.dispatch_kernels import DispatchKernels
from kvscape.compiler.passes.fuse_gates import FuseGates
from kvscape.compiler.passes.fuse_quantize import FuseQuantize
from kvscape.compiler.passes.memory_usage import MemoryUsage
from kvscape.compiler.passes.operators import emit_operator, read_operator
from kvscape.compiler.passes.quantize_activations import QuantizeActivations
from kvscape.compiler.passes.return_logits import ReturnLogits
from kvscape.compiler.passes.share_tensors import ShareTensors
from kvscape.compiler.pipeline import Pass, pipeline, run_pipeline
from kvscape.compiler.stand_ins import StandIns
from kvscape.errors import UnsupportedModelError

n = tirx.Var("n", "int64")
s = tirx.Var("s", "int64")
r = tirx.Var("r", "int64")


def tensor(name: str, shape: tuple[Any, ...], dtype: str = "float32") -> Any:
    return relax.Var(name, relax.TensorType(shape, dtype))


def module(operator: str, arguments: list[Any], types: list[Any]) -> Any:
    """``forward`` with one operator call."""
    builder = relax.BlockBuilder()
    with builder.function("forward", [value for value in arguments if isinstance(value, relax.Var)]):
        with builder.dataflow():
            result = builder.emit_output(builder.emit(emit_operator(operator, arguments, types)))
        builder.emit_func_output(result)
    return builder.get()


def calls(mod: Any) -> list[Any]:
    """All calls of ``forward`` in order."""
    found: list[Any] = []
    relax.analysis.post_order_visit(mod["forward"], lambda e: found.append(e) if isinstance(e, relax.Call) else None)
    return found


def operators(mod: Any) -> list[Operator]:
    return [op for op in map(read_operator, calls(mod)) if op is not None]


def linear(fmt: str) -> Any:
    weight = [tensor("codes", (1024,), "uint8"), tensor("scales", (64,), "float16")]
    arguments = [tensor("x", (n, 64)), fmt, 32, 64, *weight]
    return module("linear", arguments, [relax.TensorType((n, 32), "float32")])


def gated(name: str = "swiglu") -> Any:
    return module(name, [tensor("x", (n, 32))], [relax.TensorType((n, 16), "float32")])


class TestQuantizeActivations:
    @pytest.mark.parametrize("fmt", ["q4f16_1", "q4af16_1", "q8f16_1", "q4f32_1"])
    def test_a_product_with_codes_becomes_quantize_and_an_integer_product(self, fmt: str) -> None:
        before = linear(fmt)
        quantize, product = operators(QuantizeActivations()(before))
        assert (quantize.name, product.name) == ("quantize", "int8_linear")
        assert [str(x) for x in quantize.tensors] == ["x"] and quantize.constants == (32,)
        assert product.constants == (fmt, 32, 64)
        assert [x.ty.dtype for x in product.tensors] == ["int8", "float32", "int32", "uint8", "float16"]
        assert [product.shape(i)[1:] for i in range(3)] == [(64,), (2,), (2,)]
        assert [operator.name for operator in operators(before)] == ["linear"], "the input is left alone"

    def test_activations_have_the_groups_of_their_weights(self) -> None:
        """64 columns are two groups of 40, the second of them filled up."""
        quantize, product = operators(QuantizeActivations()(linear("q3f16_1")))
        assert quantize.constants == (40,)
        assert [product.shape(i)[1:] for i in range(3)] == [(80,), (2,), (2,)]

    @pytest.mark.parametrize("fmt", ["f32", "f16"])
    def test_a_product_with_floats_stays(self, fmt: str) -> None:
        before = linear(fmt)
        ir.assert_structural_equal(QuantizeActivations()(before), before)

    def test_other_operators_stay(self) -> None:
        ir.assert_structural_equal(QuantizeActivations()(gated()), gated())


def rounded(result_is_read: bool = False) -> Any:
    """A residual addition with norm, rounded to 8 bit; SwiGLU of its sum, rounded too; the norm may be a result."""
    x, delta, weight = tensor("x", (n, 64)), tensor("delta", (n, 64)), tensor("weight", (64,))
    floats, half = relax.TensorType((n, 64), "float32"), relax.TensorType((n, 32), "float32")
    builder = relax.BlockBuilder()

    def quantized(value: Any, groups: int) -> Any:
        types = [
            relax.TensorType((n, groups * size), dtype) for size, dtype in ((32, "int8"), (1, "float32"), (1, "int32"))
        ]
        return builder.emit(relax.TupleGetItem(builder.emit(emit_operator("quantize", [value, 32], types)), 0))

    with builder.function("forward", [delta, x, weight]):
        with builder.dataflow():
            pair = builder.emit(emit_operator("add_rms_norm", [delta, x, weight, 1e-5], [floats, floats]))
            normed, total = (builder.emit(relax.TupleGetItem(pair, index)) for index in range(2))
            codes = quantized(normed, 2)
            gate = quantized(builder.emit(emit_operator("swiglu", [total], [half])), 1)
            results = [codes, total, gate, *([normed] if result_is_read else [])]
            result = builder.emit_output(relax.Tuple(results))
        builder.emit_func_output(result)
    return builder.get()


class TestFuseQuantize:
    def test_what_is_only_rounded_is_written_in_codes(self) -> None:
        before = rounded()
        after = FuseQuantize()(before)
        norm, gate = operators(after)
        assert (norm.name, gate.name) == ("add_rms_norm_quantize", "swiglu_quantize")
        assert [str(x) for x in norm.tensors] == ["delta", "x", "weight"]
        assert (norm.constants, gate.constants) == ((1e-5, 32), (32,))
        assert [t.dtype for t in norm_types(after)] == ["int8", "float32", "int32", "float32"]
        relax.analysis.well_formed(after)  # raises if it is not
        assert len(operators(before)) == 4, "the input is left alone"

    def test_the_function_has_the_results_that_it_had(self) -> None:
        before, after = rounded(), FuseQuantize()(rounded())
        ir.assert_structural_equal(after["forward"].ret_ty, before["forward"].ret_ty, map_free_vars=True)
        values = {b.var: b.value for block in after["forward"].body.blocks for b in block.bindings}
        codes, total, gate = values[after["forward"].body.body].fields
        assert [values[var].index for var in (codes, total, gate)] == [0, 3, 0]

    def test_floats_that_somebody_else_reads_are_written(self) -> None:
        names = [op.name for op in operators(FuseQuantize()(rounded(result_is_read=True)))]
        assert names == ["add_rms_norm", "quantize", "swiglu_quantize"]

    def test_other_operators_stay(self) -> None:
        ir.assert_structural_equal(FuseQuantize()(gated()), gated())


def product_and_gate(dtype: str = "float16", rows: int = 64, product_is_read: bool = False) -> Any:
    """A product whose rows are gates and what they let through."""
    x = tensor("x", (n, 64), "float16")
    weight = [tensor("codes", (2048,), "uint8"), tensor("scales", (128,), "float16")]
    builder = relax.BlockBuilder()
    with builder.function("forward", [x, *weight]):
        with builder.dataflow():
            types = [relax.TensorType((n, rows), "float32")]
            product = builder.emit(emit_operator("linear", [x, "q4f16_1", rows, 64, *weight], types))
            halved = [relax.TensorType((n, rows // 2), dtype)]
            results = [builder.emit(emit_operator("swiglu", [product], halved))]
            output = builder.emit_output(relax.Tuple(results + [product] * product_is_read))
        builder.emit_func_output(output)
    return builder.get()


class TestFuseGates:
    def test_a_product_writes_what_its_gates_let_through(self) -> None:
        (op,) = operators(FuseGates("float16")(product_and_gate()))
        assert op.name == "linear_swiglu" and op.constants == ("q4f16_1", 64, 64)
        assert [tensor.name for tensor in op.tensors] == ["x", "codes", "scales"]
        assert op.result_dtype == "float16" and int(op.results[0].shape[1]) == 32

    @pytest.mark.parametrize("other", [{"dtype": "float32"}, {"rows": 48}, {"product_is_read": True}])
    def test_other_gates_stay(self, other: dict[str, Any]) -> None:
        names = [op.name for op in operators(FuseGates("float16")(product_and_gate(**other)))]
        assert names == ["linear", "swiglu"]


def norm_types(mod: Any) -> list[Any]:
    return list(calls(mod)[0].ty.fields)


class TestReturnLogits:
    @staticmethod
    def returned(name: str) -> Any:
        """What function ``name`` returns that had two results."""
        builder = relax.BlockBuilder()
        x, pool = tensor("x", (n, 32)), tensor("pool", (4, 4))
        with builder.function(name, [x, pool]):
            made = builder.emit(emit_operator("swiglu", [x], [relax.TensorType((n, 16), "float32")]))
            builder.emit_func_output(relax.Tuple([made, pool]))
        after = ReturnLogits()(builder.get())[name]
        relax.analysis.well_formed(after)
        return after.ret_ty

    def test_a_step_returns_its_first_result(self) -> None:
        assert self.returned("forward_f16").dtype == "float32"

    def test_other_functions_keep_their_results(self) -> None:
        assert len(self.returned("stage_0").fields) == 2


class TestShareTensors:
    @staticmethod
    def allocated(*tensors: tuple[int, list[Any], str]) -> Any:
        """``forward`` with tensors (storage, shape, type) of two storages, all of them its results."""
        builder = relax.BlockBuilder()
        with builder.function("forward", [tensor("x", (n,))]):
            storages = [
                builder.emit(relax.op.memory.alloc_storage(relax.ShapeExpr([n * 256]), 0, "global", "uint8"))
                for _ in range(2)
            ]
            made = [
                builder.emit(relax.op.memory.alloc_tensor(storages[place], 0, relax.ShapeExpr(shape), dtype))
                for place, shape, dtype in tensors
            ]
            builder.emit_func_output(relax.Tuple(made))
        return ShareTensors()(builder.get())

    def test_equal_allocations_of_a_storage_are_one(self) -> None:
        after = self.allocated((0, [n, 64], "float32"), (1, [n, 64], "float32"), (0, [n, 64], "float32"))
        first, second, third = after["forward"].body.body.fields
        assert first.same_as(third) and not first.same_as(second)
        assert len(calls(after)) == 4

    @pytest.mark.parametrize("other", [(0, [n, 32], "float32"), (0, [n, 64], "int32"), (0, [64, n], "float32")])
    def test_another_shape_or_type_is_another_tensor(self, other: tuple[int, list[Any], str]) -> None:
        after = self.allocated((0, [n, 64], "float32"), other)
        assert len(calls(after)) == 4


class TestDispatchKernels:
    def test_an_operator_becomes_a_call_of_its_kernel(self) -> None:
        asked: list[Operator] = []

        def dispatch(op: Operator) -> Kernel:
            asked.append(op)
            return Kernel("swiglu_16", lambda: swiglu(16), op.tensors)

        after = DispatchKernels(dispatch)(gated())
        assert [(op.name, op.shape(0)[1]) for op in asked] == [("swiglu", 32)]
        (call,) = calls(after)
        assert call.op == ir.Op.get("relax.call_tir")
        assert call.args[0].name_hint == "swiglu_16"
        assert isinstance(after["swiglu_16"], tirx.PrimFunc)

    def test_equal_keys_share_one_function(self) -> None:
        built: list[int] = []

        def build() -> Any:
            built.append(1)
            return swiglu(16)

        builder = relax.BlockBuilder()
        x = tensor("x", (n, 32))
        out = [relax.TensorType((n, 16), "float32")]
        with builder.function("forward", [x]):
            first, second = (builder.emit(emit_operator("swiglu", [x], out)) for _ in range(2))
            builder.emit_func_output(relax.Tuple([first, second]))
        after = DispatchKernels(lambda op: Kernel("gate", build, op.tensors))(builder.get())
        assert built == [1]
        assert [call.args[0].name_hint for call in calls(after)] == ["gate", "gate"]

    def test_a_kernel_in_place_says_which_argument_changes(self) -> None:
        pool = tensor("pool", (4, 4))
        before = module("append", [tensor("x", (n, 32)), pool, 7], [relax.TensorType((4, 4), "float32")])
        kernel = Kernel("append", lambda: swiglu(16), (pool,), inplace=(0,))
        (call,) = calls(DispatchKernels(lambda op: kernel)(before))
        assert call.op == ir.Op.get("relax.call_tir_inplace")
        assert list(call.attrs.inplace_indices) == [0]

    def test_an_operator_without_a_kernel_is_an_error_that_names_it(self) -> None:
        with pytest.raises(UnsupportedModelError, match="no kernel for operator 'warp'"):
            DispatchKernels(lambda op: None)(gated("warp"))


class TestStandIns:
    @staticmethod
    def lowered(stand_ins: StandIns) -> Any:
        """Two layers of one kernel, to the last pass but one."""
        builder = relax.BlockBuilder()
        x = tensor("x", (n, 32))
        with builder.function("forward", [x]):
            with builder.dataflow():
                types = [relax.TensorType((n, 16), "float32")]
                made = [builder.emit(emit_operator("swiglu", [x], types)) for _ in range(2)]
                result = builder.emit_output(relax.Tuple(made))
            builder.emit_func_output(result)
        passes = pipeline(gate_kernel, "float32", MemoryUsage(), lambda mod: mod, stand_ins)
        return run_pipeline(builder.get(), passes)

    def test_a_kernel_is_called_by_its_name_and_is_not_in_the_module(self) -> None:
        stand_ins = StandIns()
        after = self.lowered(stand_ins)
        names = [str(call.op.global_symbol) for call in calls(after) if isinstance(call.op, relax.ExternFunc)]
        assert names.count("swiglu_16") == 2, "what has no body here is no dead code"
        assert "swiglu_16" not in [gvar.name_hint for gvar in after.get_global_vars()]
        ((name, (kernel, op)),) = stand_ins.kernels.items()
        assert (name, kernel.key, op.name, op.shape(0)[1]) == ("swiglu_16", "swiglu_16", "swiglu", 32)

    def test_kernels_that_take_the_same_are_not_one(self) -> None:
        stand_ins, builder, x = StandIns(), relax.BlockBuilder(), tensor("x", (n, 32))
        op = Operator("swiglu", (x,), ())
        for name in ("one", "two", "one"):
            builder.add_func(stand_ins.make(Kernel(name, dict, (x,)), op), name)
        stand_ins.call_by_name(builder.get())
        assert {name: kernel.key for name, (kernel, _) in stand_ins.kernels.items()} == {"one": "one", "two": "two"}

    def test_results_in_place_are_no_arguments_of_their_own(self) -> None:
        x, out = tensor("x", (n, 32)), relax.TensorType((n, 16), "float32")
        op = Operator("append", (x,), (), (out, out))
        assert len(StandIns().make(Kernel("append", dict, (x, x, 7), inplace=(-1, 1)), op).params) == 4
        assert len(StandIns().make(Kernel("both", dict, (x,), scratch=(((n, 2), "float32"),)), op).params) == 4


class TestMemoryUsage:
    def test_storages_add_up_to_a_formula(self) -> None:
        builder = relax.BlockBuilder()
        with builder.function("forward", [tensor("x", (n, s)), tensor("rows", (r,))]):
            for size in (n * 256, 1000, n * 64 + 24, s * 8, r * 1280, r * 4):
                builder.emit(relax.op.memory.alloc_storage(relax.ShapeExpr([size]), 0, "global", "float32"))
            builder.emit_func_output(relax.Tuple([]))
        usage, mod = MemoryUsage(), builder.get()
        assert usage(mod) is mod
        assert usage.workspaces == {"forward": Workspace(1024, 320, 8, 1284)}
        assert usage.workspaces["forward"].nbytes(10, 2, 3) == 1024 + 3200 + 16 + 3852

    def test_results_and_scratch_of_a_planned_module_are_counted(self) -> None:
        """x [n, 32] -> swiglu [n, 16] -> swiglu [n, 8], f32: both outlive the other's making."""
        builder = relax.BlockBuilder()
        x = tensor("x", (n, 32))
        with builder.function("forward", [x]):
            with builder.dataflow():
                once = builder.emit(emit_operator("swiglu", [x], [relax.TensorType((n, 16), "float32")]))
                twice = emit_operator("swiglu", [once], [relax.TensorType((n, 8), "float32")])
                result = builder.emit_output(builder.emit(twice))
            builder.emit_func_output(result)
        usage = MemoryUsage()
        run_pipeline(builder.get(), pipeline(gate_kernel, "int8", usage, lambda mod: mod))
        assert usage.workspaces == {"forward": Workspace(0, 4 * (16 + 8), 0, 0)}


def gate_kernel(op: Operator) -> Kernel:
    width = op.shape(0)[1] // 2
    return Kernel(f"swiglu_{width}", lambda: swiglu(width), op.tensors)


class TestAttachMetadata:
    def test_the_module_gets_a_function_that_tells_its_description(self) -> None:
        before = gated()
        after = AttachMetadata(lambda mod: f'{{"functions": {len(mod.functions)}}}')(before)
        assert after["_metadata"].body.body.value == '{"functions": 1}'
        ir.assert_structural_equal(after["forward"], before["forward"])


class TestPipeline:
    def test_passes_run_in_the_order_of_the_list(self) -> None:
        done: list[str] = []

        def noted(name: str) -> Pass:
            def apply(mod: Any) -> Any:
                done.append(name)
                return mod

            return apply

        run_pipeline(gated(), [(name, noted(name)) for name in ("B", "A", "C")])
        assert done == ["B", "A", "C"]

    def test_float_activations_leave_out_their_quantization(self) -> None:
        names = {
            activation: [name for name, _ in pipeline(gate_kernel, activation, MemoryUsage(), lambda mod: mod)]
            for activation in ("int8", "float32")
        }
        assert names["int8"] == ["QuantizeActivations", "FuseQuantize", *names["float32"]]

    def test_a_dump_has_the_module_after_each_pass(self, tmp_path: Path) -> None:
        passes = pipeline(gate_kernel, "int8", MemoryUsage(), AttachMetadata(lambda mod: "{}"))
        run_pipeline(gated(), passes, tmp_path / "new" / "dump")
        files = sorted((tmp_path / "new" / "dump").iterdir())
        names = ["Input", *(name for name, _ in passes)]
        assert [path.name for path in files] == [f"{number:02d}-{name}.py" for number, name in enumerate(names)]
        texts = dict(zip(names, (path.read_text(encoding="utf-8") for path in files), strict=True))
        assert "kvscape.swiglu" in texts["QuantizeActivations"] and "kvscape.swiglu" not in texts["DispatchKernels"]
        assert "alloc_storage" in texts["LowerAllocTensor"] and "alloc_storage" not in texts["CallTIRRewrite"]
        assert "_metadata" in texts["AttachMetadata"] and "_metadata" not in texts["MemoryUsage"]
