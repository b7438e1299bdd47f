"""``python -m kvscape.calibration MODEL FOLDER WORK QUANTIZATION EMBEDDING TEXT [WRITER]``: calibrate and convert.

The engine's process runs it to get an artefact: what threads, compiler and memory it takes end with it. Each line that
it prints is [what, done, total] in JSON.
"""

import json
import os
import sys
from pathlib import Path

import tvm  # noqa: F401  all of it: it is compiled here, and the engine would load the runtime alone

from kvscape.calibration.calibrate import Plan
from kvscape.config import BUILT_IN
from kvscape.errors import KvscapeError
from kvscape.plain_text import Text, built_in_text, text_from_file
from kvscape.quantization.scheme import Scheme
from kvscape.weights.readers.random import RANDOM, RandomSource
from kvscape.weights.source import Source
from kvscape.weights.sources import open_source


def main(arguments: list[str]) -> int:
    model, folder, work, quantization, embedding, text, *writer = arguments
    try:
        read: Text | Path = Path(writer[0]) if writer else _text(text)
        Plan(_source(model), Scheme(quantization, embedding or None), read, Path(work), _print).convert(Path(folder))
    except KvscapeError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:  # nobody waits for it any more
        os._exit(1)
    return 0


def _source(model: str) -> Source:
    return RandomSource(model) if model.startswith(RANDOM) else open_source(Path(model))


def _text(name: str) -> Text:
    return Text(BUILT_IN, built_in_text("calibration").content) if name == BUILT_IN else text_from_file(Path(name))


def _print(what: str, done: int, total: int) -> None:
    print(json.dumps([what, done, total]), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
