"""``kvscape generate``: one answer to one prompt, or several."""

import sys
from collections.abc import Sequence
from json import loads as parse
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvscape.cli import options, sampling
from kvscape.cli.loading import open_llm
from kvscape.cli.output import print_json
from kvscape.errors import ConfigError

if TYPE_CHECKING:
    from kvscape.engine.request import SamplingParams
    from kvscape.engine.token_logprob import TokenLogprob
    from kvscape.llm import LLM, Choice, Completion
    from kvscape.llm.json_guide import MakeGuide

JsonSchema = Annotated[
    str | None,
    typer.Option("--json-schema", help="The answer is JSON that fits this schema, or this file's (extra serve)."),
]


def command(
    context: typer.Context,
    prompt: Annotated[str | None, typer.Option("--prompt", help="The prompt. [default: read from stdin]")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Continue the prompt as it is, without a chat template.")] = False,
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
    max_tokens: options.MaxTokens = None,
    temperature: sampling.Temperature = 0.0,
    top_k: sampling.TopK = 0,
    top_p: sampling.TopP = 1.0,
    min_p: sampling.MinP = 0.0,
    repetition_penalty: sampling.RepetitionPenalty = 1.0,
    presence_penalty: sampling.PresencePenalty = 0.0,
    frequency_penalty: sampling.FrequencyPenalty = 0.0,
    seed: options.Seed = None,
    stop: sampling.Stop = None,
    logprobs: sampling.Logprobs = None,
    ignore_eos: sampling.IgnoreEos = False,
    n: sampling.N = 1,
    json_schema: JsonSchema = None,
    json: options.Json = False,
) -> None:
    """Answer one prompt."""
    params = sampling.sampling_params(context.params)
    text, schema = _prompt(prompt), None if json_schema is None else _schema(json_schema)
    with open_llm(context.params) as llm:
        tokens = _token_ids(llm, text, raw)
        guide = None if schema is None else llm.json_guides.schema(schema)
        if json:
            print_json(_facts(llm.complete([tokens], params, guide)[0], logprobs is not None))
        elif n > 1:
            sys.stdout.write(_numbered([choice.text for choice in llm.complete([tokens], params, guide)[0].choices]))
        else:
            _stream(llm, tokens, params, guide)


def _prompt(given: str | None) -> str:
    if given is None and sys.stdin.isatty():
        raise ConfigError("no prompt", "there is none on stdin either", 'give --prompt "..."')
    text = sys.stdin.read() if given is None else given
    if not text:
        raise ConfigError("the prompt is empty", "there is nothing to answer", 'give --prompt "..."')
    return text


def _token_ids(llm: "LLM", text: str, raw: bool) -> list[int]:
    return llm.tokenizer.encode(text, add_bos=True) if raw else llm.chat_token_ids([{"role": "user", "content": text}])


def _schema(given: str) -> Any:
    """A JSON schema, given as it is or as a file's name."""
    try:
        return parse(given if given.lstrip().startswith("{") else Path(given).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--json-schema {given}", str(error), "give a schema or a file that holds one") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError("--json-schema is not JSON", str(error), "correct it") from None


def _stream(llm: "LLM", tokens: list[int], params: "SamplingParams", guide: "MakeGuide | None") -> None:
    for output in llm.run([tokens], params, guide):
        sys.stdout.write(output.text)
        sys.stdout.flush()
    sys.stdout.write("\n")


def _numbered(texts: Sequence[str]) -> str:
    """Each answer under a line that says which one it is."""
    parts = [f"[{number}/{len(texts)}]\n{text}\n" for number, text in enumerate(texts, start=1)]
    return "\n".join(parts)


def _facts(completion: "Completion", with_logprobs: bool) -> dict[str, Any]:
    choices = [_choice(choice, with_logprobs) for choice in completion.choices]
    facts = {**choices[0], "prompt_token_ids": completion.prompt_token_ids}
    return {**facts, "choices": choices} if len(choices) > 1 else facts


def _choice(choice: "Choice", with_logprobs: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "text": choice.text,
        "token_ids": choice.token_ids,
        "finish_reason": choice.finish_reason,
    }
    return {**facts, "logprobs": [_logprob(entry) for entry in choice.logprobs]} if with_logprobs else facts


def _logprob(entry: "TokenLogprob") -> dict[str, Any]:
    top = [{"token_id": token, "logprob": value} for token, value in entry.top]
    return {"token_id": entry.token_id, "logprob": entry.logprob, "top": top}
