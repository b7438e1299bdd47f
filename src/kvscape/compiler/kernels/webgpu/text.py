"""The WGSL text of a kernel: constants, then the files of its parts."""

from pathlib import Path
from string import Template

_SOURCE = Path(__file__).parent / "source"


def text(*parts: str, **constants: int | float | str) -> str:
    """The parts one behind the other, each a file's name; numbers become constants, strings stand for ``$name``."""
    numbers = [_constant(name, value) for name, value in constants.items() if not isinstance(value, str)]
    texts = {name: value for name, value in constants.items() if isinstance(value, str)}
    files = [(_SOURCE / f"{part}.wgsl").read_text(encoding="utf-8") for part in parts]
    return "\n".join([*numbers, Template("\n".join(files)).substitute(texts)])


def _constant(name: str, value: int | float) -> str:
    return f"const {name} = {value}u;" if isinstance(value, int) else f"const {name} = f32({value!r});"
