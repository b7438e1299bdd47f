"""A reference run on disk: its distributions, row by row, and what they were made of.

The file is a file of tensors (safetensors) that appears whole or not at all. ``quality/reference_format`` says what is
kept of a row and ``quality/kl`` proves what that is good for.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvscape.artifact.tensor_file import TensorSpec, map_tensors
from kvscape.artifact.tensor_writer import TensorWriter
from kvscape.errors import ArtifactError, ResultsError
from kvscape.files import written_file
from kvscape.quality.distributions import Doubles, Floats, Ids
from kvscape.quality.reference_facts import ReferenceFacts
from kvscape.quality.reference_rows import Arrays, KeptRows, kept
from kvscape.weights.blocks import blocks, in_order

_FACTS = "facts"
_REDO = "make it again with --save-reference"


class ReferenceWriter:
    """An open file that rows are added to, in the order of the windows."""

    def __init__(self, tensors: TensorWriter, facts: ReferenceFacts) -> None:
        self._tensors, self._form = tensors, facts.form
        self.rows = 0

    def add(self, logits: Floats, targets: Ids) -> Doubles:
        """Keep rows of logits [rows, vocab_size]; return the right tokens' log-probabilities."""

        def one(part: slice) -> dict[str, NDArray[Any]]:
            return kept(logits[part], targets[part], self._form)

        return np.concatenate([self._write(arrays) for arrays in in_order(one, blocks(*logits.shape))])

    def _write(self, arrays: Mapping[str, NDArray[Any]]) -> Doubles:
        for name, array in arrays.items():
            self._tensors.write(name, array, self.rows)
        target_logprobs = arrays["target_logprobs"].astype(np.float64)
        self.rows += len(target_logprobs)
        return target_logprobs


@contextmanager
def saved_reference(path: Path, facts: ReferenceFacts) -> Iterator[ReferenceWriter]:
    """Write ``path`` when the block has added all rows of ``facts``; an error or an interrupt leaves nothing."""
    text = np.frombuffer(facts.to_json().encode(), np.uint8)
    specs = {_FACTS: TensorSpec("uint8", text.shape), **facts.form.specs(facts.rows, facts.vocab_size)}
    with written_file(path) as temporary:
        with TensorWriter(temporary, specs) as tensors:
            tensors.write(_FACTS, text)
            writer = ReferenceWriter(tensors, facts)
            yield writer
        if writer.rows != facts.rows:
            raise RuntimeError(f"a reference of {facts.rows} rows got {writer.rows}")


@dataclass(frozen=True)
class KeptPart:
    """Consecutive rows of a mapped file, read when they are touched."""

    arrays: Arrays
    first: int

    def rows(self, part: slice) -> KeptRows:
        wanted = slice(self.first + part.start, self.first + part.stop)
        return KeptRows({name: array[wanted] for name, array in self.arrays.items()})


@dataclass(frozen=True)
class ReferenceLogits:
    """A reference that was found on disk."""

    facts: ReferenceFacts
    arrays: Arrays

    def part(self, first: int) -> KeptPart:
        """The rows from ``first`` on."""
        return KeptPart(self.arrays, first)


def find_reference(path: Path) -> ReferenceLogits:
    """Read what a reference is of.

    Raises ResultsError when it is missing, cut short, of another version, or something else.
    """
    try:
        arrays = map_tensors(path)
    except ArtifactError as error:
        raise ResultsError(f"cannot read the reference {path}", error.why, _REDO) from None
    try:
        facts = ReferenceFacts.from_json(bytes(arrays.pop(_FACTS)).decode())
        _check_arrays(facts, arrays)
    except KeyError:
        raise ResultsError(f"{path} is no reference", "it holds other tensors", _REDO) from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ResultsError(f"cannot use the reference {path}", str(error), _REDO) from None
    return ReferenceLogits(facts, arrays)


def _check_arrays(facts: ReferenceFacts, arrays: Arrays) -> None:
    specs = facts.form.specs(facts.rows, facts.vocab_size)
    found = {name: TensorSpec(str(array.dtype), array.shape) for name, array in arrays.items()}
    if found != specs:
        raise ValueError("its tensors are not those that it says it has")
