"""What Python spends of a decode step: ``python benchmarks/host_cost.py [--model M] [--batch 1 4 16] [--steps 200]``.

A step is scheduled, run and postprocessed by Python; inside it compiled functions are called. What the step takes
beyond these calls is the host's cost. They include TVM's own argument passing, which is not Python's.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from kvscape import LLM
from kvscape.config.point import DEFAULT_MODEL
from kvscape.engine import Request, SamplingParams


class Stopwatch:
    """Adds up the time of the functions that it is around."""

    def __init__(self) -> None:
        self.spent_s = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments)
            self.spent_s += time.perf_counter() - start
            return result

        return timed


def host_cost(model: str, batch: int, prompt: int, steps: int) -> tuple[float, float]:
    """Median seconds of a decode step, and of those the host's."""
    with LLM(model, context_window_size=prompt + steps + 8, max_batch_size=batch, prefix_cache=False) as llm:
        device, engine = llm.device, llm.engine
        compiled, functions = Stopwatch(), device.__dict__["_functions"]
        functions.update({name: compiled.around(function) for name, function in functions.items()})
        params = SamplingParams(max_tokens=steps + 8, ignore_eos=True)
        for number in range(batch):
            engine.add(Request(str(number), tuple(range(100 + number, 100 + number + prompt)), params))
        while engine.metrics.generated_tokens < 4 * batch:
            engine.step()
        totals, hosts = [], []
        for _ in range(steps):
            compiled.spent_s, start = 0.0, time.perf_counter()
            engine.step()
            totals.append(time.perf_counter() - start)
            assert compiled.spent_s > 0, "the device calls other functions than these"
            hosts.append(totals[-1] - compiled.spent_s)
        return statistics.median(totals), statistics.median(hosts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--prompt", type=int, default=128, help="tokens in the cache when decoding begins")
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    print("batch   step us   host us   host %")
    for batch in arguments.batch:
        total_s, host_s = host_cost(arguments.model, batch, arguments.prompt, arguments.steps)
        print(f"{batch:>5}{total_s * 1e6:>10,.0f}{host_s * 1e6:>10,.0f}{host_s / total_s:>9.1%}", flush=True)


if __name__ == "__main__":
    main()
