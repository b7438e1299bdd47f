"""Drafts without a second model: what came after the newest tokens where they stood before.

Prompt lookup decoding (Saxena 2023, github.com/apoorvumang/prompt-lookup-decoding).
"""

_SIZES = (3, 2)
"""Lengths of the n-grams that are looked up, the longest first."""


class PromptLookup:
    """Where each n-gram of one sequence stood last; tokens are only ever appended."""

    def __init__(self) -> None:
        self._behind: tuple[dict[tuple[int, ...], int], ...] = tuple({} for _ in _SIZES)
        self._known = 0

    def draft(self, token_ids: list[int], most: int) -> list[int]:
        """Return up to ``most`` tokens that may follow ``token_ids``; a period that reaches the end goes on."""
        self._learn(token_ids)
        for size, behind in zip(_SIZES, self._behind, strict=True):
            place = behind.get(tuple(token_ids[-size:]))
            if place is not None:
                period = len(token_ids) - place
                return [token_ids[place + index % period] for index in range(most)]
        return []

    def _learn(self, token_ids: list[int]) -> None:
        """Note the n-grams that something follows."""
        for end in range(self._known, len(token_ids)):
            for size, behind in zip(_SIZES, self._behind, strict=True):
                if end >= size:
                    behind[tuple(token_ids[end - size : end])] = end
        self._known = len(token_ids)
