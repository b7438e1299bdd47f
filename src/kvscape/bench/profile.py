"""Time for each kernel of one prefill and one decode step, against the roofline of this machine."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

from kvscape.analysis.cpu import default_threads
from kvscape.analysis.kernel_cost import StepFacts, kernel_cost
from kvscape.analysis.roofline import DeviceRates, attention_operations
from kvscape.bench.calibrated import stored_device
from kvscape.bench.gpu_driver import GpuDriver
from kvscape.bench.gpu_timer import GpuTimer
from kvscape.bench.probe import measure_rates
from kvscape.bench.replay import Call, Recorder, Timed, replay, timed_by, timed_here
from kvscape.bench.thread_facts import thread_facts
from kvscape.bench.workload import make_prompts
from kvscape.config import DesignPoint, cuda_index
from kvscape.engine import Request, SamplingParams
from kvscape.errors import CapacityError
from kvscape.results import current_environment
from kvscape.results.profile import KernelTime, Profile, StepProfile
from kvscape.subjects.kvscape_subject import KvscapeSubject

if TYPE_CHECKING:
    from kvscape.llm import LLM


def check_profile(point: DesignPoint) -> None:
    """Raise CapacityError for a prompt that is no single step, or leaves no room to decode."""
    prompt, runs = point.workload.prompt_tokens, point.workload.num_runs
    chunk, context = point.engine.prefill_chunk_size, point.engine.context_window_size
    if prompt > chunk:
        why = f"a step takes at most prefill_chunk_size {chunk}"
        raise CapacityError(f"prompt_tokens {prompt} are several steps", why, "use a larger chunk or a shorter prompt")
    if prompt + runs + point.engine.max_batch_size + 3 > context:
        why = f"context_window_size is {context}"
        raise CapacityError(f"prompt_tokens {prompt} leave no room to decode", why, "use a larger context")


def profile(llm: "LLM", point: DesignPoint) -> Profile:
    """Profile an open model, whose prefix cache must be off: one prompt's prefill, and a decode step of the batch.

    Products of 8-bit activations are held against the rate of integers where the machine is calibrated, else of floats.
    """
    check_profile(point)
    threads, device = point.threads or default_threads(), point.build.device
    rates = measure_rates(llm.memory.weights_bytes, threads, device)
    known = stored_device(threads, device)
    integer = replace(rates, operations_per_s=known.integer_operations_per_s) if known else rates
    profiler = Profiler(llm, point, rates, integer)
    steps = (profiler.prefill(), profiler.decode())
    environment = {**current_environment(device).to_json(), **thread_facts(threads), **asdict(rates)}
    if known:
        environment["integer_operations_per_s"] = known.integer_operations_per_s
    return Profile(point.flat(), environment, steps)


class Profiler:
    """Runs steps of an engine: first some for their wall time, then one that is recorded and replayed."""

    def __init__(self, llm: "LLM", point: DesignPoint, rates: DeviceRates, integer: DeviceRates) -> None:
        self._llm, self._point, self._rates, self._integer = llm, point, rates, integer
        self._prompts = make_prompts(point, KvscapeSubject(llm).ordinary_token_ids, 0)

    @property
    def _length(self) -> int:
        return self._point.workload.prompt_tokens

    def prefill(self) -> StepProfile:
        """The step that reads one prompt."""

        def step() -> None:
            self._add(0, max_tokens=1)
            self._llm.engine.step()

        seen = self._length * (self._length + 1) // 2
        return self._measure("prefill", step, lambda: self._facts(self._length, seen, self._length))

    def decode(self) -> StepProfile:
        """A step that gives every stream of the batch one token."""
        engine, batch = self._llm.engine, self._point.engine.max_batch_size
        start = engine.metrics.generated_tokens
        for number in range(batch):
            self._add(number, max_tokens=self._point.engine.context_window_size - self._length)
        while engine.metrics.generated_tokens < start + batch:
            engine.step()

        def facts() -> StepFacts:
            keys = batch * self._length + engine.metrics.generated_tokens - start - batch
            return self._facts(batch, keys, keys)

        result = self._measure("decode", engine.step, facts)
        for number in range(batch):
            engine.cancel(str(number))
        return result

    def _add(self, number: int, max_tokens: int) -> None:
        params = SamplingParams(max_tokens=max_tokens, ignore_eos=True)
        self._llm.engine.add(Request(str(number), tuple(self._prompts[number]), params))

    def _measure(self, name: str, step: Callable[[], object], facts: Callable[[], StepFacts]) -> StepProfile:
        """Record one step, then take turns: a whole step, and its kernels one by one."""
        from kvscape.engine.devices.calls import cheapest_call  # TVM's runtime, which bench itself does not need

        step()  # warms up
        calls, known = self._recorded(step), facts()
        rounds = range(self._point.workload.num_runs)
        timed = _timed(self._point.build.device, self._llm.device)
        turns = [(_seconds(step), replay(calls, cheapest_call(), timed)) for _ in rounds]
        wall_s = float(np.median([seconds for seconds, _ in turns]))
        times = np.median([times for _, times in turns], axis=0)
        return StepProfile(name, known.tokens, wall_s, self._kernels(calls, times.tolist(), known))

    def _recorded(self, step: Callable[[], object]) -> list[Call]:
        recorder = Recorder(self._llm.metadata.kernels)
        self._llm.device.instrument(recorder)
        step()
        self._llm.device.instrument(None)
        return recorder.calls

    def _facts(self, tokens: int, keys_seen: int, keys_present: int) -> StepFacts:
        from kvscape.engine.devices.calls import pool_shapes  # TVM's runtime, which bench itself does not need

        model = self._llm.metadata.model
        return StepFacts(
            tokens,
            keys_seen,
            keys_present,
            kv_bytes=self._llm.memory.kv_bytes_per_token / model.num_hidden_layers,
            attention_operations=attention_operations(model, 1) / model.num_hidden_layers,
            pool_shapes=pool_shapes(self._llm.engine.pools),
        )

    def _kernels(self, calls: Sequence[Call], times: Sequence[float], facts: StepFacts) -> tuple[KernelTime, ...]:
        """The calls of each kernel added up, the slowest kernel first."""
        totals: dict[str, KernelTime] = {}
        for call, time_s in zip(calls, times, strict=True):
            cost = kernel_cost(call.name, call.arrays, facts)
            rates = self._integer if call.name.startswith("int8_") else self._rates
            one = KernelTime(call.name, 1, time_s, cost.nbytes, cost.operations, cost.least_s(rates))
            totals[call.name] = totals[call.name] + one if call.name in totals else one
        return tuple(sorted(totals.values(), key=lambda kernel: -kernel.time_s))


def _timed(name: str, device: object) -> Timed:
    """How calls are timed: on a GPU by its own clock, for the host does not wait for it."""
    from kvscape.engine.devices.calls import TimesCalls  # TVM's runtime, which bench itself does not need

    if isinstance(device, TimesCalls):
        return timed_by(device)
    index = cuda_index(name)
    return timed_here if index is None else GpuTimer(GpuDriver(index)).timed


def _seconds(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start
