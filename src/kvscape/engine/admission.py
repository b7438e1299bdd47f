"""Turns away, in one clear line, a request that could never be served."""

from collections.abc import Sequence

from kvscape.analysis.memory import num_pages
from kvscape.config import EngineConfig, LayerGroup, ModelConfig
from kvscape.engine.request import Request
from kvscape.errors import CapacityError, ConfigError


def longest_sequence(model: ModelConfig, config: EngineConfig) -> int:
    """Tokens of prompt and answer together at most; the last one needs no place in the KV cache."""
    return min(config.context_window_size, _cached_tokens(model, config) + 1)


def _cached_tokens(model: ModelConfig, config: EngineConfig) -> int:
    """Tokens that one sequence can pass through the KV cache: no limit where what its windows keep fits."""
    kept = all(_most_pages(config, group) <= num_pages(config, group) for group in model.layer_groups)
    return config.context_window_size if kept else config.total_tokens


def _most_pages(config: EngineConfig, group: LayerGroup) -> int:
    """Pages of a sequence that fills the context."""
    context, chunk = config.context_window_size, config.prefill_chunk_size
    return config.window(group).most_pages(context, chunk, config.page_size, config.key_group)


def check_request(request: Request, model: ModelConfig, config: EngineConfig) -> None:
    """Raise ConfigError for a request that makes no sense, CapacityError for one that does not fit."""
    _check_task(request)
    spare = 1 if request.generates else 0
    _check_context(request, config.context_window_size - spare)
    _check_tokens("in the prompt", request.prompt_token_ids, model.vocab_size)
    _check_tokens("in logit_bias", [token_id for token_id, _ in request.params.logit_bias], model.vocab_size)
    _check_cache(request, _cached_tokens(model, config) + 1 - spare)


def _check_task(request: Request) -> None:
    if not request.prompt_token_ids:
        raise ConfigError("the prompt is empty", "there is nothing to continue", "give at least one token")
    if request.guide is not None and request.params.ignore_eos:
        raise ConfigError("a guide with ignore_eos", "the guide says where the answer may end", "leave ignore_eos out")
    if request.prompt_logits and not request.prompt_logprobs:
        raise ConfigError("prompt_logits alone", "they come with a score", "ask for prompt_logprobs too")
    if request.generates:
        return
    if not request.prompt_logprobs:
        raise ConfigError("max_tokens = 0", "no prompt log-probabilities are asked for", "ask for at least one token")
    if request.params.n > 1:
        raise ConfigError(f"n = {request.params.n}", "a score has no choices", "use n = 1 with max_tokens = 0")
    if len(request.prompt_token_ids) < 2:
        raise ConfigError("a text of one token has no score", "nothing comes before it", "give at least two tokens")


def _check_tokens(where: str, token_ids: Sequence[int], vocab_size: int) -> None:
    for token_id in (min(token_ids, default=0), max(token_ids, default=0)):
        if not 0 <= token_id < vocab_size:
            raise ConfigError(
                f"token {token_id} {where}", f"the vocabulary has {vocab_size}", "use the model's own tokenizer"
            )


def _check_context(request: Request, most: int) -> None:
    if len(request.prompt_token_ids) > most:
        raise CapacityError(
            f"the prompt has {len(request.prompt_token_ids)} tokens",
            f"at most {most} fit in the context window",
            "shorten it or raise context_window_size",
        )


def _check_cache(request: Request, most: int) -> None:
    if len(request.prompt_token_ids) > most:
        raise CapacityError(
            f"the prompt has {len(request.prompt_token_ids)} tokens",
            f"at most {most} fit in the KV cache",
            "shorten it or raise max_total_sequence_length",
        )
