"""A macro finds its parser without reading source files, and is the same macro."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from tvm.ir import assert_structural_equal
from tvm.script.parser.core.parser import ScriptMacro

from kvscape.compiler.kernels.cpu.gated import swiglu
from kvscape.compiler.kernels.parser_lookup import find_parser


def by_inspection(macro: Any) -> Any:
    """As TVM 0.27 has it."""
    for info in inspect.getouterframes(inspect.currentframe()):
        parser = info.frame.f_globals.get(ScriptMacro.parser_object_name)
        if parser is not None:
            return parser
    raise AssertionError


def parsed_with(find: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(ScriptMacro, "_find_parser_def", find)
    return swiglu(8)


def test_a_macro_is_what_tvm_makes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_structural_equal(parsed_with(find_parser, monkeypatch), parsed_with(by_inspection, monkeypatch))


def test_macros_are_parsed_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a later TVM asks another method, this fails and the module can go."""
    used: list[Any] = []

    def noted(macro: Any) -> Any:
        used.append(macro)
        return find_parser(macro)

    assert ScriptMacro._find_parser_def is find_parser
    parsed_with(noted, monkeypatch)
    assert len(used) == 2


def test_a_macro_outside_a_function_is_an_error() -> None:
    class Macro:
        func = swiglu

    with pytest.raises(RuntimeError, match="no function is being parsed: swiglu is a macro"):
        find_parser(Macro())
