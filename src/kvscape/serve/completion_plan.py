"""From a text completion to what the engine is asked."""

from dataclasses import dataclass

from kvscape.engine.request import Request
from kvscape.errors import KvscapeError
from kvscape.serve.errors import ApiError
from kvscape.serve.protocol.completion import CompletionRequest
from kvscape.serve.protocol.sampling import MOST_CHOICES
from kvscape.serve.served_model import ServedModel

_MAX_TOKENS = 16  # OpenAI's default


@dataclass(frozen=True)
class Prompt:
    """A prompt's tokens, and its text where that is echoed."""

    token_ids: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class CompletionPlan:
    """A request to the engine for each prompt."""

    prompts: tuple[Prompt, ...]
    requests: tuple[Request, ...]
    echo: bool

    @property
    def n(self) -> int:
        """Choices of each prompt."""
        return self.requests[0].params.n

    @property
    def num_choices(self) -> int:
        return self.n * len(self.prompts)

    @property
    def scored(self) -> bool:
        """Whether the prompt's own log-probabilities are asked for."""
        return self.echo and self.num_logprobs is not None

    @property
    def num_logprobs(self) -> int | None:
        return self.requests[0].params.logprobs


def plan_completion(body: CompletionRequest, request_id: str, model: ServedModel) -> CompletionPlan:
    """Find the tokens of all prompts; raise ApiError for what cannot be. It may take a while."""
    _check(body)
    prompts = tuple(_prompt(given, bool(body.echo), model) for given in body.prompts)
    params = body.sampling_params(_MAX_TOKENS if body.max_tokens is None else body.max_tokens, body.logprobs)
    scored = bool(body.echo) and body.logprobs is not None
    requests = (
        Request(f"{request_id}-{number}", prompt.token_ids, params, scored and len(prompt.token_ids) > 1)
        for number, prompt in enumerate(prompts)
    )
    return CompletionPlan(prompts, tuple(requests), bool(body.echo))


def _check(body: CompletionRequest) -> None:
    if len(body.prompts) * body.num_choices > MOST_CHOICES:
        message = f"{len(body.prompts)} prompts with n = {body.num_choices}: at most {MOST_CHOICES} choices in all"
        raise ApiError(400, message, param="n")
    if body.suffix:
        raise ApiError(400, "suffix is not supported by this server", param="suffix")
    if body.best_of is not None and body.best_of != body.num_choices:
        raise ApiError(400, "best_of is not supported by this server, unless it is n", param="best_of")
    if body.max_tokens == 0 and body.num_choices > 1:
        raise ApiError(400, "n: there are no choices with max_tokens = 0", param="n")


def _prompt(given: str | list[int], echo: bool, model: ServedModel) -> Prompt:
    try:
        if isinstance(given, str):
            return Prompt(_some(model.encode(given)), given)
        return Prompt(tuple(given), model.tokenizer.decode(given) if echo else "")
    except KvscapeError as error:
        raise ApiError(400, str(error), param="prompt") from None


def _some(token_ids: list[int]) -> tuple[int, ...]:
    if not token_ids:
        raise ApiError(400, "prompt: it is empty; give at least one token", param="prompt")
    return tuple(token_ids)
