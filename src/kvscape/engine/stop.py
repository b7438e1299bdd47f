"""Finds stop strings in text that comes piece by piece."""


class StopMatcher:
    """Passes text on up to the first stop string, holding back what may be the beginning of one.

    Of several stop strings the one that is complete first wins, the longest among equals, so that the result does
    not depend on how the text was cut into pieces.
    """

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = stop
        self._held = ""
        self.matched = False

    def add(self, text: str) -> str:
        """Return the text that can be shown now; nothing more comes after a match."""
        if not self._stop:
            return text
        if self.matched:
            return ""
        self._held += text
        start = self._first_match()
        if start is not None:
            self.matched = True
            return self._release(start, keep=False)
        return self._release(len(self._held) - self._partial_match(), keep=True)

    def finish(self) -> str:
        """Return what was held back, for no more text will come."""
        return self._release(len(self._held), keep=False)

    def _release(self, end: int, keep: bool) -> str:
        text, rest = self._held[:end], self._held[end:]
        self._held = rest if keep else ""
        return text

    def _first_match(self) -> int | None:
        starts = ((self._held.find(word), word) for word in self._stop)
        found = [(start + len(word), start) for start, word in starts if start >= 0]
        return min(found)[1] if found else None

    def _partial_match(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = min(len(self._held), max(map(len, self._stop), default=1) - 1)
        ends = (length for length in range(longest, 0, -1) if self._begins_stop(self._held[-length:]))
        return next(ends, 0)

    def _begins_stop(self, end: str) -> bool:
        return any(word.startswith(end) for word in self._stop)
