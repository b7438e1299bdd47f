"""A subject in a process of its own, told what to measure line by line: ``python benchmarks/worker.py SUBJECT``.

Two thread pools in one process disturb each other. Each subject has its own process, which waits for a line on stdin
without spinning while the other one works. A request is a JSON object of flat parameters, the answer the samples of
one run; the subject stays loaded until another point is asked for.
"""

import json
import sys
import time
from contextlib import ExitStack
from typing import Any

from kvscape.bench.measure import run_once
from kvscape.config import DesignPoint
from kvscape.errors import KvscapeError
from kvscape.subjects import Subject, loaded_subject


class Worker:
    """Keeps one point's subject loaded."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._point: DesignPoint | None = None
        self._subject: Subject | None = None
        self._runs = 0

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        point = DesignPoint.from_flat(request)
        subject = self._loaded(point)
        self._runs += 1
        timeline = run_once(subject, point, self._runs, time.perf_counter).timeline
        return {
            "prefill_tokens_per_s": timeline.prefill_tokens_per_s,
            "decode_tokens_per_s": timeline.decode_tokens_per_s,
            "output_tokens_per_s": sum(map(len, timeline.tokens_s)) / timeline.end_s,
            "total_bytes": subject.memory.total_bytes,
            "kernels": subject.kernels,
        }

    def _loaded(self, point: DesignPoint) -> Subject:
        if point != self._point or self._subject is None:
            self._stack.close()
            self._subject, self._point = self._stack.enter_context(loaded_subject(point)), point
            run_once(self._subject, point, 0, time.perf_counter)  # warms up
        return self._subject

    def close(self) -> None:
        self._stack.close()


def main() -> None:
    worker = Worker()
    for line in sys.stdin:
        try:
            answer = worker.answer(json.loads(line))
        except KvscapeError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)
    worker.close()


if __name__ == "__main__":
    main()
