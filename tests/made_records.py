"""A small study that nobody measured: two quantizations, two KV precisions, two contexts, two batches."""

from itertools import product

from kvscape.config import DesignPoint
from kvscape.results import PerplexityRecord, Record

ENVIRONMENT = {"cpu": "a <fast> processor", "memory_bytes": 8 << 30, "packages": {"numpy": "2.0"}}
WEIGHTS = {"auto": 84 << 20, "q8f16_1": 137 << 20}
PERPLEXITY = {"auto": 28.7, "q8f16_1": 28.6}


def made_point(**parameters: object) -> DesignPoint:
    return DesignPoint.from_flat(parameters)


def made_record(quantization: str, kv_dtype: str, context: int, batch: int) -> Record:
    point = made_point(quantization=quantization, kv_dtype=kv_dtype, context_window_size=context, max_batch_size=batch)
    cache = context * batch * {"f16": 23040, "int8": 11880}[kv_dtype]
    speed = 150.0 * batch
    metrics = {
        "weights_bytes": WEIGHTS[quantization],
        "kv_cache_bytes": cache,
        "workspace_bytes": 1 << 20,
        "runtime_bytes": 3 << 20,
        "total_bytes": WEIGHTS[quantization] + cache + (4 << 20),
        "prefill_tokens_per_s": 800.0,
        "decode_tokens_per_s": speed,
        "ttft_s": 0.16,
        "tpot_s": batch / speed,
        "e2e_s": 1.0,
        "chars_per_s": 4 * speed,
        "perplexity": PERPLEXITY[quantization],
    }
    return Record(point.flat(), metrics, {}, {}, ENVIRONMENT, kernels=("paged_attention_f16",))


def made_records() -> list[Record]:
    """Sixteen measured points and one that could not run."""
    ran = [made_record(*chosen) for chosen in product(WEIGHTS, ("f16", "int8"), (1024, 4096), (1, 4))]
    refused = made_point(context_window_size=8192, max_batch_size=64).flat()
    return [*ran, Record(refused, {}, {}, {}, ENVIRONMENT, status="infeasible", reason="it needs <more> memory")]


def made_perplexities() -> list[PerplexityRecord]:
    return [
        PerplexityRecord(
            parameters=made_point(quantization=quantization, kv_dtype=kv).flat(),
            perplexity=value,
            standard_error=0.5,
            mean_nll=3.3,
            tokens_scored=511,
            protocol="windows",
            context=512,
            text="wikitext2",
            text_sha256="0" * 64,
        )
        for quantization, value in PERPLEXITY.items()
        for kv in ("f16", "int8")
    ]
