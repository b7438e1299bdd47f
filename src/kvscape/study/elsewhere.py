"""A design point in the words of other engines, and what they have no word for."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from kvscape.config import DesignPoint, KVPrecision
from kvscape.subjects import is_remote

_MLC_FORMATS = ("q0f16", "q0f32", "q3f16_1", "q4f16_1", "q4f32_1")
_GGML_TYPES = {
    "q4f16_1": "Q4_0",
    "q4f32_1": "Q4_0",
    "q4af16_1": "Q4_1",
    "q8f16_1": "Q8_0",
    "q8f32_1": "Q8_0",
    "q0f16": "F16",
    "q0f32": "F32",
    "q3f16_1": "Q3_K_S",
}
_GGML_KV = {"f32": "f32", "f16": "f16", "fp8": "q8_0", "int8": "q8_0", "int4": "q4_0"}


@dataclass(frozen=True)
class Translation:
    """Commands of another engine; ``missing`` names what they do not say, or say only nearly."""

    engine: str
    commands: tuple[str, ...]
    missing: tuple[str, ...]


def translations(point: DesignPoint, metrics: Mapping[str, float]) -> tuple[Translation, ...]:
    """For MLC-LLM, vLLM and llama.cpp's server. Whether they run, and how fast, was not measured.

    What a server runs is not known, so that it cannot be said in other words.
    """
    if is_remote(point):
        return ()
    return _mlc_llm(point), _vllm(point, metrics), _llama_server(point)


def _mlc_llm(point: DesignPoint) -> Translation:
    engine, quantization = point.engine, point.build.quantization
    known = quantization in _MLC_FORMATS
    fmt = quantization if known else "q4f16_1"
    window = {"sliding_window_size": engine.sliding_window_size, "attention_sink_size": engine.attention_sink_size}
    compiled = {
        "context_window_size": engine.context_window_size,
        "prefill_chunk_size": engine.prefill_chunk_size,
        "max_batch_size": engine.max_batch_size,
        **(window if engine.sliding_window_size != -1 else {}),
    }
    served = {
        "max_num_sequence": engine.max_batch_size,
        "max_total_seq_length": engine.total_tokens,
        "prefill_chunk_size": engine.prefill_chunk_size,
        "prefix_cache_mode": "radix" if engine.prefix_cache else "disable",
    }
    folder, library = f"MODEL-{fmt}-MLC", f"MODEL-{fmt}.so"
    convert = ["kvscape", "convert", "--model", point.build.model, "--quantization", fmt, "--format", "mlc"]
    commands = (
        shlex.join([*convert, "--output", folder]),
        shlex.join(["mlc_llm", "compile", folder, "--overrides", _overrides(compiled), "--output", library]),
        shlex.join(["mlc_llm", "serve", folder, "--model-lib", library, "--mode", "server", "--overrides",
                    _overrides(served)]),
    )  # fmt: skip
    missing = [] if known else [f"quantization {quantization}: {fmt} is nearest"]
    missing += [] if engine.kv_dtype == "f16" else [f"kv_dtype {engine.kv_dtype}: its cache is f16"]
    missing += [] if engine.page_size == 16 else [f"page_size {engine.page_size}: its pages have 16 tokens"]
    return Translation("mlc_llm", commands, (*missing, *_everywhere(point)))


def _overrides(values: Mapping[str, object]) -> str:
    return ";".join(f"{name}={value}" for name, value in values.items())


def _vllm(point: DesignPoint, metrics: Mapping[str, float]) -> Translation:
    engine, build = point.engine, point.build
    floats = {"q0f16": "float16", "q0f32": "float32"}
    bits = KVPrecision.parse(engine.kv_dtype)
    kept = {bits.key, bits.value}
    command = ["vllm", "serve", _hub_name(build.model)]
    command += ["--dtype", floats.get(build.quantization, "float16")]
    command += ["--max-model-len", str(engine.context_window_size), "--max-num-seqs", str(engine.max_batch_size)]
    command += ["--max-num-batched-tokens", str(max(engine.prefill_chunk_size, engine.max_batch_size))]
    command += ["--kv-cache-dtype", "auto" if kept <= {"f32", "f16"} else "fp8", "--block-size", str(engine.page_size)]
    command += ["--enable-prefix-caching" if engine.prefix_cache else "--no-enable-prefix-caching"]
    if "kv_cache_bytes" in metrics:
        command += ["--kv-cache-memory-bytes", str(int(metrics["kv_cache_bytes"]))]
    missing = (
        [] if build.quantization in floats else [f"quantization {build.quantization}: give a checkpoint of its own"]
    )
    missing += [f"kv_dtype {engine.kv_dtype}: fp8 is nearest"] if not kept <= {"f32", "f16"} and kept != {"fp8"} else []
    missing += [f"kv_dtype {engine.kv_dtype}: its cache has the weights' type"] if engine.kv_dtype == "f32" else []
    if engine.sliding_window_size != -1:
        missing.append("sliding_window_size and attention_sink_size: a window is the model's own there")
    return Translation("vllm", (shlex.join(command),), (*missing, *_everywhere(point)))


def _llama_server(point: DesignPoint) -> Translation:
    engine, build = point.engine, point.build
    precision = KVPrecision.parse(engine.kv_dtype)
    is_file = build.quantization == "auto"
    fmt = _GGML_TYPES.get(build.quantization)
    file = "MODEL.gguf" if is_file or fmt is None else f"MODEL-{fmt}.gguf"
    tokens = max(engine.prefill_chunk_size, engine.max_batch_size)
    command = ["llama-server", "-m", file]
    command += ["-c", str(engine.context_window_size * engine.max_batch_size), "-np", str(engine.max_batch_size)]
    command += ["-b", str(tokens), "-ub", str(tokens)]
    command += ["-ctk", _GGML_KV[precision.key], "-ctv", _GGML_KV[precision.value], "-fa", "on"]
    command += ["-t", str(point.threads)] if point.threads else []
    command += ["-ngl", "99"] if build.device.startswith("cuda") else []
    commands = [shlex.join(command)]
    if not is_file and fmt:
        commands.insert(0, shlex.join(["llama-quantize", "MODEL-F16.gguf", file, fmt]))
    missing = [] if is_file or fmt else [f"quantization {build.quantization}"]
    missing += [f"quantization {build.quantization}: {fmt} is nearest"] if fmt and not is_file and fmt[0] != "F" else []
    missing += [f"kv_dtype {name}: {_GGML_KV[name]} is nearest" for name in ("fp8", "int8", "int4")
                if name in (precision.key, precision.value)]  # fmt: skip
    if engine.sliding_window_size != -1:
        missing.append("sliding_window_size and attention_sink_size: it keeps the whole context")
    missing.append("context_window_size: -c counts the tokens of all slots together")
    return Translation("llama-server", tuple(commands), (*missing, *_everywhere(point)))


def _everywhere(point: DesignPoint) -> tuple[str, ...]:
    """What none of the others has."""
    build = point.build
    found = [f"activation {build.activation}: their kernels choose"]
    if build.embedding_quantization is not None:
        found.append(f"embedding_quantization {build.embedding_quantization}")
    if build.calibrate is not None:
        found.append(f"calibrate {build.calibrate}")
    return tuple(found)


def _hub_name(model: str) -> str:
    return model.removeprefix("HF://") if model.startswith("HF://") else "MODEL"
