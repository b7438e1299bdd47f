import shlex
from typing import Any

import pytest

from kvscape.config import DesignPoint
from kvscape.study.elsewhere import Translation, translations


def translated(**parameters: Any) -> dict[str, Translation]:
    point = DesignPoint.from_flat(parameters)
    return {one.engine: one for one in translations(point, {"kv_cache_bytes": 1_000_000.0})}


def flags(command: str) -> dict[str, str]:
    words = shlex.split(command)
    return {name: value for name, value in zip(words, [*words[1:], ""], strict=True) if name.startswith("-")}


def overrides(command: str) -> dict[str, str]:
    return dict(part.split("=") for part in flags(command)["--overrides"].split(";"))


POINT: dict[str, Any] = {
    "model": "HF://org/name", "quantization": "q4f16_1", "context_window_size": 4096, "prefill_chunk_size": 512,
    "max_batch_size": 4, "threads": 8,
}  # fmt: skip


def test_mlc_llm_has_the_same_words_as_overrides() -> None:
    convert, build, serve = translated(**POINT)["mlc_llm"].commands
    assert convert.startswith("kvscape convert --model HF://org/name --quantization q4f16_1 --format mlc")
    assert overrides(build) == {"context_window_size": "4096", "prefill_chunk_size": "512", "max_batch_size": "4"}
    assert overrides(serve) == {"max_num_sequence": "4", "max_total_seq_length": "16384", "prefill_chunk_size": "512",
                                "prefix_cache_mode": "radix"}  # fmt: skip
    assert flags(build)["--output"] == flags(serve)["--model-lib"]
    windowed = translated(**POINT, sliding_window_size=256, attention_sink_size=4)["mlc_llm"]
    assert overrides(windowed.commands[1])["attention_sink_size"] == "4"


def test_vllm_counts_bytes_tokens_and_sequences() -> None:
    given = flags(translated(**POINT, kv_dtype="int8", prefix_cache=False)["vllm"].commands[0])
    assert given["--max-model-len"] == "4096"
    assert given["--max-num-seqs"] == "4"
    assert given["--max-num-batched-tokens"] == "512"
    assert given["--kv-cache-dtype"] == "fp8"
    assert given["--kv-cache-memory-bytes"] == "1000000"
    assert "--no-enable-prefix-caching" in given


def test_llama_servers_context_is_shared_by_its_slots() -> None:
    translation = translated(**POINT, kv_dtype="k=int8,v=int4")["llama-server"]
    quantize, serve = translation.commands
    assert quantize.split()[-1] == "Q4_0"
    given = flags(serve)
    assert (given["-c"], given["-np"], given["-ub"], given["-t"]) == ("16384", "4", "512", "8")
    assert (given["-ctk"], given["-ctv"], given["-fa"]) == ("q8_0", "q4_0", "on")
    assert any("-c counts the tokens of all slots" in line for line in translation.missing)


def test_a_file_as_it_is_needs_no_quantizing() -> None:
    (command,) = translated(quantization="auto")["llama-server"].commands
    assert flags(command)["-m"] == "MODEL.gguf"


@pytest.mark.parametrize(
    ("engine", "parameters", "missing"),
    [
        ("mlc_llm", {"quantization": "q8f16_1"}, "quantization q8f16_1"),
        ("mlc_llm", {"kv_dtype": "int8"}, "kv_dtype int8"),
        ("mlc_llm", {"page_size": 32}, "page_size 32"),
        ("vllm", {"quantization": "q4f16_1"}, "quantization q4f16_1"),
        ("vllm", {"kv_dtype": "int4"}, "kv_dtype int4"),
        ("vllm", {"kv_dtype": "f32"}, "kv_dtype f32"),
        ("vllm", {"sliding_window_size": 64}, "sliding_window_size"),
        ("llama-server", {"sliding_window_size": 64}, "sliding_window_size"),
        ("llama-server", {"quantization": "q3f16_1"}, "quantization q3f16_1"),
        ("llama-server", {"embedding_quantization": "q8f16_1"}, "embedding_quantization q8f16_1"),
    ],
)
def test_what_does_not_translate_is_named(engine: str, parameters: dict[str, Any], missing: str) -> None:
    assert any(line.startswith(missing) for line in translated(**parameters)[engine].missing)


def test_a_plain_point_misses_little() -> None:
    assert translated(quantization="q0f16")["vllm"].missing == ("activation int8: their kernels choose",)


def test_a_gpu_has_fp8_and_takes_all_layers() -> None:
    found = translated(**POINT, kv_dtype="fp8", device="cuda:0")
    assert flags(found["vllm"].commands[0])["--kv-cache-dtype"] == "fp8"
    assert not any("kv_dtype" in line for line in found["vllm"].missing)
    serve = flags(found["llama-server"].commands[-1])
    assert (serve["-ctk"], serve["-ctv"], serve["-ngl"]) == ("q8_0", "q8_0", "99")
    assert "kv_dtype fp8: q8_0 is nearest" in found["llama-server"].missing
    assert "-ngl" not in flags(translated(**POINT)["llama-server"].commands[-1])
