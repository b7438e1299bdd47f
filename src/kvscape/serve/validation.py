"""A request that does not fit OpenAI's types, said in one line that names the field."""

from collections.abc import Mapping, Sequence
from typing import Any

from kvscape.serve.errors import ApiError


def invalid(errors: Sequence[Mapping[str, Any]], body: Any) -> ApiError:
    """The error that lies deepest, and is not of the type: of the members of a union, the one that came closest."""
    error = max(errors, key=lambda one: (len(one["loc"]), not one["type"].endswith("_type")))
    param = _param(error["loc"][1:], body)
    return ApiError(400, _message(error, param or "the body"), param=param)


def _message(error: Mapping[str, Any], param: str) -> str:
    if error["type"] == "extra_forbidden":
        return f"unknown field {param}"
    if error["type"] == "missing":
        return f"{param} is missing"
    if error["type"] == "none_required":
        return f"{param} is not supported by this server"
    return f"{param}: {error['msg']}"


def _param(location: Sequence[str | int], body: Any) -> str | None:
    """The field in JavaScript's notation; the names of union members, which pydantic has among them, are left out."""
    path, value = "", body
    for number, part in enumerate(location):
        if isinstance(part, int) and isinstance(value, list):
            path, value = f"{path}[{part}]", value[part] if part < len(value) else None
        elif isinstance(part, str) and isinstance(value, dict) and (part in value or number == len(location) - 1):
            path, value = f"{path}.{part}", value.get(part)
    return path.removeprefix(".") or None
