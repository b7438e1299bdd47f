"""From flags to configuration: what is given wins over overrides, and the two may not disagree."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from kvscape.config import (
    BuildConfig,
    DesignPoint,
    EndpointConfig,
    EngineConfig,
    Workload,
    parse_overrides,
    parse_share,
)
from kvscape.errors import ConfigError

ENDPOINT = "endpoint"

Flags = Mapping[str, Any]
"""The parsed flags of a command by their parameter names; None where a flag was not given."""


def build_config(flags: Flags) -> BuildConfig:
    """Model, formats and device; raise ConfigError or DeviceError before anything is downloaded."""
    from kvscape.subjects import find_subject

    build = BuildConfig(**{**_given(flags, _names(BuildConfig)), **_model(flags)})
    if (name := subject_name(flags)) != ENDPOINT:
        find_subject(name).check(DesignPoint(build))
    return build


def subject_name(flags: Flags) -> str:
    """A server that is named is the subject, where no other is."""
    return flags.get("subject") or (ENDPOINT if flags.get("endpoint") else DesignPoint().subject)


def _model(flags: Flags) -> dict[str, str]:
    """The model may stand without its flag, as in MLC-LLM's commands."""
    argument, flag = flags.get("model_argument"), flags.get("model")
    if argument is not None and flag is not None and argument != flag:
        raise ConfigError(f"two models, {argument} and --model {flag}", "they disagree", "give one")
    name = argument if flag is None else flag
    return {} if name is None else {"model": name}


def engine_fields(flags: Flags) -> dict[str, Any]:
    """The engine's fields that flags or overrides set; raise ConfigError where the two disagree or a value is wrong."""
    given = _given(flags, _names(EngineConfig))
    for name, value in parse_overrides(flags.get("overrides", "")).items():
        if given.setdefault(name, value) != value:
            flag = f"--{name.replace('_', '-')} {given[name]}"
            raise ConfigError(f"{flag} and the override {name}={value}", "they disagree", "give one of them")
    EngineConfig(**given)
    return given


def endpoint_config(flags: Flags) -> EndpointConfig:
    return EndpointConfig(**_given(flags, _names(EndpointConfig)))


def workload(flags: Flags) -> Workload:
    given = _given(flags, _names(Workload))
    if "precision" in given:
        given["precision"] = parse_share(given["precision"])
    return Workload(**given)


def _given(flags: Flags, names: Iterable[str]) -> dict[str, Any]:
    return {name: flags[name] for name in names if flags.get(name) is not None}


def _names(kind: type[BuildConfig | EngineConfig | EndpointConfig | Workload]) -> list[str]:
    return [field.name for field in fields(kind)]
