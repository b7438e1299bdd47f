"""``kvscape chat``: a conversation in the terminal."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvscape.cli import options
from kvscape.cli.loading import open_llm
from kvscape.cli.sampling import Temperature, sampling_params

if TYPE_CHECKING:
    from kvscape.engine.metrics import RequestMetrics
    from kvscape.engine.request import SamplingParams
    from kvscape.llm import LLM
    from kvscape.tokenizer import Message

Plain = Annotated[bool, typer.Option("--plain", help="Show answers as they are written, not as Markdown.")]
System = Annotated[str | None, typer.Option("--system", help="The system prompt. [default: the template's own]")]


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
    system: System = None,
    max_tokens: options.MaxTokens = 512,
    temperature: Temperature = 0.0,
    seed: options.Seed = None,
    plain: Plain = False,
) -> None:
    """Talk to a model; /help lists what can be typed."""
    params = sampling_params(context.params)
    with open_llm(context.params) as llm:
        _talk(llm, params, system, plain)


def _talk(llm: "LLM", params: "SamplingParams", system: str | None, plain: bool) -> None:
    from kvscape.chat import ChatSession, Terminal, open_screen

    llm.chat_token_ids([{"role": "user", "content": "hi"}])  # a model that cannot chat says so before anything is typed
    free = max(1, llm.engine.config.context_window_size - params.max_tokens)
    session = ChatSession(lambda messages: len(llm.chat_token_ids(messages)), free, system)
    Terminal(session, LlmTalker(llm, params), open_screen(plain)).run()


class LlmTalker:
    """An open model as what answers."""

    def __init__(self, llm: "LLM", params: "SamplingParams") -> None:
        self._llm, self._params = llm, params
        self._metrics: RequestMetrics | None = None

    @property
    def temperature(self) -> float:
        return self._params.temperature

    @temperature.setter
    def temperature(self, temperature: float) -> None:
        self._params = replace(self._params, temperature=temperature)

    def stream(self, messages: "Sequence[Message]") -> Iterator[str]:
        for output in self._llm.run([self._llm.chat_token_ids(messages)], self._params):
            self._metrics = output.metrics or self._metrics
            yield output.text

    def stats(self) -> str:
        """The last answer's speed, the memory in use, and how much of all prompts was in the prefix cache."""
        from kvscape.report.quantity import QUANTITIES

        memory = self._llm.memory
        facts: dict[str, Any] = {**_speed(self._metrics), **vars(memory), "total_bytes": memory.total_bytes}
        facts["prefix_cache_hit_rate"] = self._llm.engine.metrics.prefix_cache_hit_rate
        lines = [f"{q.title}: {q.shown(facts[q.name])} {q.unit}" for q in QUANTITIES.values() if q.name in facts]
        return "\n".join(lines)


def _speed(metrics: "RequestMetrics | None") -> dict[str, float | None]:
    if metrics is None:
        return {}
    tpot = metrics.tpot_s
    return {"ttft_s": metrics.ttft_s, "tpot_s": tpot, "decode_tokens_per_s": 1 / tpot if tpot else None}
