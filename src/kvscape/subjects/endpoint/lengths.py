"""How long prompts and answers are: all alike, drawn by chance, or as a file has them."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kvscape.config import Workload
from kvscape.errors import ConfigError

SHAREGPT = "sharegpt"

# Means of ShareGPT's prompts and answers in tokens: Kwon et al. 2023, arXiv 2309.06180, Figure 11. They print no
# spread: the standard deviations of the logarithms are our choice, long tails as conversations have them.
_MEANS, _SIGMAS = (161.31, 337.99), (1.3, 1.0)
_LEAST, _MOST = 4, 1024
_LONGEST = 2**24  # in a file: more than any context
# Where a conversation's answer must be counted and no tokenizer is at hand.
_CHARACTERS_PER_TOKEN = 4.0


@dataclass(frozen=True)
class Length:
    """Tokens of one request; a ``text`` is the prompt itself, and its tokens are an estimate."""

    prompt_tokens: int
    output_tokens: int
    text: str | None = None


def lengths(workload: Workload, run: int) -> Iterator[Length]:
    """Lengths without end: those of a file in a random order, again and again."""
    generator = np.random.default_rng((workload.seed, run, 1))
    if workload.lengths is None:
        fixed = Length(workload.prompt_tokens, workload.max_tokens)
        while True:
            yield fixed
    if workload.lengths == SHAREGPT:
        while True:
            prompt, output = (_log_normal(generator, *of) for of in zip(_MEANS, _SIGMAS, strict=True))
            yield Length(prompt, output)
    known = read_lengths(Path(workload.lengths))
    while True:
        yield from (known[place] for place in generator.permutation(len(known)))


def _log_normal(generator: np.random.Generator, mean: float, sigma: float) -> int:
    drawn = generator.lognormal(np.log(mean) - sigma**2 / 2, sigma)
    return int(np.clip(round(drawn), _LEAST, _MOST))


def read_lengths(path: Path) -> Sequence[Length]:
    """Read ``prompt_tokens`` and ``output_tokens`` of a .csv or .jsonl file, or the conversations of ShareGPT's .json.

    Raises ConfigError for a file that is none of them, naming its first wrong line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot read {path}", why, "give sharegpt, or a .csv, .jsonl or .json file") from None
    found = list(_READERS.get(path.suffix, _rows_of_lines)(text, path))
    if not found:
        raise ConfigError(f"{path} has no lengths", "it is empty", "give prompt_tokens and output_tokens")
    return found


def _rows_of_lines(text: str, path: Path) -> Iterator[Length]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield _length(_parsed(line, f"line {number} of {path}"), f"line {number} of {path}")


def _rows_of_csv(text: str, path: Path) -> Iterator[Length]:
    for number, row in enumerate(csv.DictReader(text.splitlines()), 2):
        yield _length(row, f"line {number} of {path}")


def _conversations(text: str, path: Path) -> Iterator[Length]:
    """The first question and its answer of each conversation."""
    entries = _parsed(text, str(path))
    for entry in entries if isinstance(entries, list) else ():
        if (turns := _first_turns(entry)) is not None:
            question, answer = turns
            yield Length(_tokens(question), _tokens(answer), question)


def _first_turns(entry: Any) -> tuple[str, str] | None:
    """None where a conversation does not begin with a question and its answer."""
    match entry:
        case {"conversations": [{"from": "human", "value": str(question)}, {"value": str(answer)}, *_]} if question:
            return question, answer
    return None


def _tokens(text: str) -> int:
    return max(2, round(len(text) / _CHARACTERS_PER_TOKEN))


_READERS = {".csv": _rows_of_csv, ".json": _conversations}


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ConfigError(f"{where} is no JSON", "", 'write {"prompt_tokens": 128, "output_tokens": 64}') from None


def _length(row: Any, where: str) -> Length:
    try:
        prompt, output = int(row["prompt_tokens"]), int(row["output_tokens"])
    except (KeyError, TypeError, ValueError):
        why = "it needs whole numbers prompt_tokens and output_tokens"
        raise ConfigError(f"{where} has no lengths", why, "correct the line") from None
    if not (1 <= prompt <= _LONGEST and 1 <= output <= _LONGEST):
        why = f"each must be 1 to {_LONGEST:,}"
        raise ConfigError(f"{where}: {prompt} and {output} tokens", why, "correct the line")
    return Length(prompt, output)
