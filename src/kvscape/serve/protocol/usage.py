"""How many tokens a request took."""

from kvscape.serve.protocol.strict import Answered


class PromptTokensDetails(Answered):
    """Prompt tokens whose keys and values were there already."""

    cached_tokens: int = 0


class Usage(Answered):
    """Tokens of all prompts, and of all choices with the token that ended each."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


def usage(prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> Usage:
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=cached_tokens),
    )
