"""``kvscape serve``: an OpenAI-compatible server."""

import sys
from dataclasses import fields
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvscape.cli import options
from kvscape.cli.chosen import Flags, build_config, engine_fields
from kvscape.cli.loading import built_point, done_jit, library_metadata, open_llm
from kvscape.errors import ConfigError

if TYPE_CHECKING:
    from socket import socket

    from kvscape.llm import LLM
    from kvscape.serve.settings import ServeSettings

_BATCH = 16
_MIXED_CHUNK = 64  # beside a batch of 8 such a step is some two times as long as one without prompts
_MEMORY_SHARE = 0.8  # the rest is for texts, connections and the other programs
_PACKAGES = ("fastapi", "uvicorn", "prometheus_client", "llguidance")


def _option(name: str, help_text: str, default: str = "", **more: Any) -> Any:
    shown = f" [default: {default}]" if default else ""
    return typer.Option(f"--{name}", help=help_text + shown, rich_help_panel="Server", **more)


Host = Annotated[str | None, _option("host", "Address to listen at; 0.0.0.0 is every network.", "127.0.0.1")]
Port = Annotated[int | None, _option("port", "Port to listen at; 0 takes a free one.", "8000")]
ApiKey = Annotated[
    str | None, _option("api-key", "Key that requests must have.", envvar="KVSCAPE_API_KEY", show_envvar=True)
]
Name = Annotated[str | None, _option("served-model-name", "The model's name in requests.", "its own")]
CorsOrigin = Annotated[
    list[str] | None, _option("cors-origin", "Site whose pages may call, e.g. https://example.org; may be repeated.")
]
AllowedHost = Annotated[
    list[str] | None, _option("allowed-host", "Name by which a proxy calls a server on loopback; may be repeated.")
]
MaxWaiting = Annotated[int | None, _option("max-waiting", "Answers that may wait for a place in the batch.", "256")]
MaxBodyBytes = Annotated[int | None, _option("max-body-bytes", "Size of a request at most.", "4 MiB")]
RequestTimeout = Annotated[float | None, _option("request-timeout-s", "Seconds that an answer may take.", "600")]
Drain = Annotated[float | None, _option("drain-s", "Seconds for running answers when the server stops.", "30")]


def command(
    context: typer.Context,
    model_argument: options.ModelArgument = None,
    model: options.Model = None,
    quantization: options.Quantization = None,
    embedding_quantization: options.EmbeddingQuantization = None,
    calibrate: options.Calibrate = None,
    activation: options.Activation = None,
    device: options.Device = None,
    model_lib: options.ModelLib = None,
    jit: options.Jit = "on",
    overrides: options.Overrides = "",
    context_window_size: options.ContextWindowSize = None,
    prefill_chunk_size: options.PrefillChunkSize = None,
    mixed_chunk_size: options.MixedChunkSize = None,
    max_batch_size: options.MaxBatchSize = None,
    max_total_sequence_length: options.MaxTotalSequenceLength = None,
    sliding_window_size: options.SlidingWindowSize = None,
    attention_sink_size: options.AttentionSinkSize = None,
    kv_dtype: options.KvDtype = None,
    page_size: options.PageSize = None,
    prefix_cache: options.PrefixCache = None,
    prompt_lookup_tokens: options.PromptLookupTokens = None,
    threads: options.Threads = None,
    served_model_name: Name = None,
    host: Host = None,
    port: Port = None,
    api_key: ApiKey = None,
    cors_origin: CorsOrigin = None,
    allowed_host: AllowedHost = None,
    max_waiting: MaxWaiting = None,
    max_body_bytes: MaxBodyBytes = None,
    request_timeout_s: RequestTimeout = None,
    drain_s: Drain = None,
) -> None:
    """Serve a model with OpenAI's API; 16 sequences at once unless --max-batch-size says otherwise."""
    _check_packages()
    _serve(context.params, _settings(context.params))


def _check_packages() -> None:
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError("the server's packages are missing", ", ".join(missing), "pip install 'kvscape[serve]'")


def _settings(flags: Flags) -> "ServeSettings":
    from kvscape.serve.settings import ServeSettings

    if flags["served_model_name"] == "":
        raise ConfigError("the served model's name is empty", "no request could say it", "give one, or none at all")
    lists = {"cors_origins": flags["cors_origin"], "allowed_hosts": flags["allowed_host"]}
    given = {field.name: flags.get(field.name) for field in fields(ServeSettings)}
    given |= {name: tuple(value) for name, value in lists.items() if value}
    return ServeSettings(**{name: value for name, value in given.items() if value is not None})


def _serve(flags: Flags, settings: "ServeSettings") -> None:
    from kvscape.serve import bind

    # the address first, so that no model is loaded for nothing
    with bind(settings.host, settings.port) as listener, open_llm(bounded(flags)) as llm:
        _run(llm, flags, settings, listener)


def bounded(flags: Flags) -> Flags:
    """The flags with a batch for many, small chunks beside it, and the KV cache that fits into the memory."""
    library = library_metadata(flags["model_lib"]).overrides if flags["model_lib"] else {}
    given = {**library, **engine_fields(flags)}
    for name, value in (("max_batch_size", _BATCH), ("mixed_chunk_size", _MIXED_CHUNK)):
        flags = flags if name in given else {**flags, name: value}
    return flags if "max_total_sequence_length" in given else {**flags, **_total(flags)}


def _total(flags: Flags) -> dict[str, Any]:
    from kvscape.analysis.fit import fitting_total
    from kvscape.analysis.free_memory import available_memory_bytes

    point, built = built_point(flags)
    manifest, workspaces = built.artifact.manifest, library_metadata(built.library).workspaces
    free = int(available_memory_bytes(point.build.device) * _MEMORY_SHARE)
    total = fitting_total(manifest.model, point.engine, built.weights_bytes, workspaces, free)
    return {"max_total_sequence_length": total, "jit": done_jit(flags)}


def _run(llm: "LLM", flags: Flags, settings: "ServeSettings", listener: "socket") -> None:
    from kvscape.engine.async_engine import AsyncEngine
    from kvscape.serve import ServedModel, Service, address, run_server, served_name

    asked = build_config(flags).model
    name = served_name(asked) if flags["served_model_name"] is None else flags["served_model_name"]
    model = ServedModel(name, llm, llm.metadata.model, llm.engine.config, (asked,))
    service = Service(AsyncEngine(llm.engine, settings.max_waiting), model, settings)
    warn(settings)
    run_server(service, listener, lambda: print(f"serving {model.name} at {address(listener)}", flush=True))


def warn(settings: "ServeSettings") -> None:
    """Tell whoever starts a server that everybody can use it, if that is so."""
    if not settings.on_loopback and settings.api_key is None:
        print("warning: whoever reaches this machine may use the server; give --api-key", file=sys.stderr)
