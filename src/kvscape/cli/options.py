"""Every flag that more than one command has: one name, one help text, one type.

A flag that is not given is None, so that a command can tell it from a default and from an override.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from kvscape.config import KV_DTYPES, ROUTES, DesignPoint
from kvscape.config.point import ACTIVATIONS

_DEFAULTS = DesignPoint().flat()


def _option(name: str, help_text: str, panel: str, shown: Any = None) -> Any:
    value = _DEFAULTS.get(name) if shown is None else shown
    default = f" [default: {value}]" if value is not None else ""
    return typer.Option(f"--{name.replace('_', '-')}", help=help_text + default, rich_help_panel=panel)


def _switch(name: str, help_text: str, panel: str) -> Any:
    flag = name.replace("_", "-")
    default = f" [default: {'on' if _DEFAULTS[name] else 'off'}]"
    return typer.Option(f"--{flag}/--no-{flag}", help=help_text + default, rich_help_panel=panel)


_MODEL, _ENGINE, _WORK = "Model", "Engine and KV cache", "Workload"

ModelArgument = Annotated[str | None, typer.Argument(help="The model, instead of --model.", show_default=False)]
Model = Annotated[
    str | None, _option("model", "pypi://NAME, HF://ORG/NAME, random://SHAPE, a folder or a .gguf file.", _MODEL)
]
Quantization = Annotated[str | None, _option("quantization", "Weight format; auto keeps the file's own codes.", _MODEL)]
EmbeddingQuantization = Annotated[
    str | None,
    _option("embedding_quantization", "The embedding and the output layer.", _MODEL, "as --quantization has it"),
]
Calibrate = Annotated[
    str | None,
    _option("calibrate", "Text that weights are rounded for: self (the model's own), builtin or a file.", _MODEL),
]
Activation = Annotated[
    str | None, _option("activation", f"Activations in products: {' or '.join(ACTIVATIONS)}.", _MODEL)
]
Device = Annotated[str | None, _option("device", "Where it runs.", _MODEL)]
ModelLib = Annotated[
    Path | None, _option("model_lib", "A library that 'kvscape compile --output' wrote.", _MODEL, "the cache's")
]
Jit = Annotated[str, typer.Option("--jit", help="Compile what is missing: on, off or redo.", rich_help_panel=_MODEL)]
Overrides = Annotated[
    str,
    typer.Option(
        "--overrides", help='As MLC-LLM: "context_window_size=4096;prefill_chunk_size=1024".', rich_help_panel=_ENGINE
    ),
]
ContextWindowSize = Annotated[
    int | None, _option("context_window_size", "Tokens of one sequence.", _ENGINE, "2048, or the model's")
]
PrefillChunkSize = Annotated[int | None, _option("prefill_chunk_size", "Prompt tokens of one step.", _ENGINE)]
MixedChunkSize = Annotated[
    int | None, _option("mixed_chunk_size", "Prompt tokens of a step beside answers that go on; 0 is as many.", _ENGINE)
]
MaxBatchSize = Annotated[int | None, _option("max_batch_size", "Sequences at once.", _ENGINE)]
MaxTotalSequenceLength = Annotated[
    int | None, _option("max_total_sequence_length", "Tokens of the whole KV cache.", _ENGINE, "context x batch")
]
SlidingWindowSize = Annotated[int | None, _option("sliding_window_size", "Tokens that are seen; -1 is all.", _ENGINE)]
AttentionSinkSize = Annotated[int | None, _option("attention_sink_size", "First tokens that stay seen.", _ENGINE)]
KvDtype = Annotated[
    str | None, _option("kv_dtype", f"KV precision: {', '.join(KV_DTYPES)}, or k=int8,v=int4 apart.", _ENGINE)
]
PageSize = Annotated[int | None, _option("page_size", "Tokens of one KV page, a multiple of 8.", _ENGINE)]
PrefixCache = Annotated[bool | None, _switch("prefix_cache", "Share the KV pages of equal beginnings.", _ENGINE)]
PromptLookupTokens = Annotated[
    int | None, _option("prompt_lookup_tokens", "Tokens drafted from what was there, in each step; 0 is off.", _ENGINE)
]
Threads = Annotated[int | None, _option("threads", "Threads of the kernels.", _ENGINE, "one for each processor")]

PromptTokens = Annotated[int | None, _option("prompt_tokens", "Tokens of each prompt.", _WORK)]
MaxTokens = Annotated[int | None, _option("max_tokens", "Tokens to generate.", _WORK)]
NumRequests = Annotated[int | None, _option("num_requests", "Requests of one run.", _WORK, "one for each sequence")]
RequestRate = Annotated[
    float | None, _option("request_rate", "Requests a second, by chance (Poisson).", _WORK, "all at once")
]
NumRuns = Annotated[int | None, _option("num_runs", "Measured runs at least, after those to warm up.", _WORK)]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="Run on until the medians are known to this, e.g. 3%; at most 10 x --num-runs. [default: off]",
        rich_help_panel=_WORK,
    ),
]
Seed = Annotated[int | None, _option("seed", "Seed of what is random.", _WORK)]
Subject = Annotated[str | None, _option("subject", "What is measured.", _WORK)]

_ENDPOINT = "Endpoint (any OpenAI-compatible server)"
Endpoint = Annotated[
    str | None, _option("endpoint", "Its URL; it becomes the subject.", _ENDPOINT, "none: kvscape's own engine")
]
EndpointModel = Annotated[
    str | None, _option("endpoint_model", "Name of its model.", _ENDPOINT, "the first that it lists")
]
EndpointRoute = Annotated[str | None, _option("endpoint_route", f"{' or '.join(ROUTES)}.", _ENDPOINT, ROUTES[0])]
EndpointRetries = Annotated[
    int | None, _option("endpoint_retries", "Times that a 429 is tried again, after its Retry-After.", _ENDPOINT, "0")
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key", envvar="KVSCAPE_API_KEY", help="Its key; better given by the variable.", rich_help_panel=_ENDPOINT
    ),
]
Clients = Annotated[int | None, _option("concurrency", "Clients that wait for their answers.", _ENDPOINT, "1")]
DurationS = Annotated[float | None, _option("duration_s", "Seconds in which requests are sent.", _ENDPOINT, "off")]
Lengths = Annotated[
    str | None,
    _option("lengths", "sharegpt, or a file of prompt_tokens and output_tokens.", _ENDPOINT, "all alike"),
]
Slo = Annotated[str | None, _option("slo", 'What goodput keeps: "ttft_s=0.5;tpot_s=0.05".', _ENDPOINT, "none")]

_BUDGET = "Budget"
MaxMemory = Annotated[
    str | None, typer.Option("--max-memory", help='Total memory at most, e.g. "2 GiB".', rich_help_panel=_BUDGET)
]
MinDecode = Annotated[
    float | None,
    typer.Option(
        "--min-decode",
        "--min-decode-tokens-per-s",
        help="Tokens per second that one stream gets at least.",
        rich_help_panel=_BUDGET,
    ),
]
MaxTtft = Annotated[
    float | None,
    typer.Option("--max-ttft", help="Seconds to the first token at most.", rich_help_panel=_BUDGET),
]
MinContext = Annotated[
    int | None,
    typer.Option("--min-context", help="Tokens of a sequence that must fit.", rich_help_panel=_BUDGET),
]
Concurrency = Annotated[
    int | None,
    typer.Option("--concurrency", help="Sequences that must run at once.", rich_help_panel=_BUDGET),
]
Objective = Annotated[
    str,
    typer.Option(
        "--objective",
        help="What to be best in: decode, prefill, ttft, memory or quality.",
        rich_help_panel=_BUDGET,
    ),
]
MaxPerplexityIncrease = Annotated[
    str | None,
    typer.Option(
        "--max-ppl-increase",
        "--max-perplexity-increase",
        help='Perplexity above the baseline\'s at most, e.g. "2%". [default: 2% where no limit is given]',
        rich_help_panel=_BUDGET,
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        "--baseline", help="Quantization whose perplexity is the baseline. [default: the best]", rich_help_panel=_BUDGET
    ),
]
StudyName = Annotated[str | None, typer.Option("--study", help="Which study, where a folder holds several.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Formats = Annotated[
    list[str] | None, typer.Option("--format", help="png, svg or html; may be repeated. [default: png and svg]")
]
