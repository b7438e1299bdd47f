"""The engine: schedule, run, postprocess, until every request has its answer."""

import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Ordered
from itertools import count

import numpy as np

from kvscape.analysis.memory import num_pages
from kvscape.config import EngineConfig
from kvscape.engine.admission import check_request
from kvscape.engine.devices.device import Device, FloatArray
from kvscape.engine.finish import FinishRule
from kvscape.engine.kv_cache import PagedKVCache
from kvscape.engine.metrics import EngineMetrics, RequestMetrics
from kvscape.engine.model_runner import ModelRunner, StepResult
from kvscape.engine.request import FinishReason, Output, Request, SamplingParams, TokenLogprob
from kvscape.engine.scheduler import Scheduler
from kvscape.engine.sequence import Chunk, Sequence
from kvscape.engine.text import Detokenizer, TextStream
from kvscape.errors import ConfigError


class Engine:
    """Serves many requests at once on one device.

    Greedy tokens, samples and scores do not depend on batch, chunks, pages, prefix cache or preemption.
    ``detokenizer`` makes a fresh one for each request; without it outputs have no text. Raises ConfigError if the
    model was not made for the context.
    """

    def __init__(
        self,
        device: Device,
        config: EngineConfig,
        detokenizer: Callable[[], Detokenizer] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.config = config.fitted(device.model)
        self.model = device.model
        self.metrics = EngineMetrics()
        pages = [num_pages(self.config, group) for group in self.model.layer_groups]
        windows = [self.config.window(group) for group in self.model.layer_groups]
        page_size, num_tails = self.config.page_size, self.config.max_batch_size
        self.pools = device.allocate(self.config.kv_dtype, pages, page_size, num_tails, self.config.seen_tokens)
        self.cache = PagedKVCache(pages, page_size, self.config.prefix_cache, windows, num_tails, self.config.key_group)
        self._scheduler = Scheduler(self.config, self.cache)
        self._runner = ModelRunner(device, self.pools, self.cache)
        self._finish_rule = FinishRule(self.model, self.config)
        self._detokenizer, self._clock = detokenizer, clock
        self._sequences: dict[str, list[Sequence]] = {}
        self._arrivals = count()

    @property
    def has_work(self) -> bool:
        """Whether a request waits or runs."""
        return self._scheduler.has_work

    def add(self, request: Request) -> None:
        """Queue ``request``; raise ConfigError if it makes no sense, CapacityError if it can never fit."""
        check_request(request, self.model, self.config)
        if request.request_id in self._sequences:
            raise ConfigError(f"request {request.request_id!r} is already there", "ids are unique", "choose another id")
        if request.params.stop and (request.detokenizer or self._detokenizer) is None:
            raise ConfigError("stop strings need text", "this engine has no detokenizer", "give it one")
        choices = self._choices(request)
        choices[0].siblings = choices[1:]
        self._sequences[request.request_id] = choices
        self._scheduler.add(choices[0])

    def _choices(self, request: Request) -> list[Sequence]:
        """A sequence for each answer; the first one computes the prompt."""
        arrival, now = next(self._arrivals), self._clock()
        return [
            Sequence(request.choice(index), self._text(request), RequestMetrics(now), arrival, index)
            for index in range(request.params.n)
        ]

    def _text(self, request: Request) -> TextStream:
        made = request.detokenizer or self._detokenizer
        return TextStream(made() if made else None, request.params.stop)

    def step(self) -> list[Output]:
        """Compute one batch; return what it added to the requests that advanced."""
        chunks = self._scheduler.schedule()
        try:
            result = self._runner.run(chunks)
        except BaseException:  # what it was writing may be half written
            self._scheduler.preempt(chunk.sequence for chunk in chunks)
            raise
        return self._postprocess(chunks, result)

    def cancel(self, request_id: str) -> list[Output]:
        """End a request now and free its pages; return the last outputs of the choices that had not ended."""
        choices = list(self._sequences.get(request_id, ()))
        return [self._output(sequence, (), "", "cancelled") for sequence in choices]

    def score(self, token_ids: Ordered[int]) -> FloatArray:
        """Log-probability of each token after the first, given those before it: f32 [n - 1].

        The engine must be idle; with other requests running, add a Request with ``prompt_logprobs`` instead.
        """
        return np.concatenate(list(self.score_chunks(token_ids)))

    def score_chunks(self, token_ids: Ordered[int]) -> Iterator[FloatArray]:
        """What ``score`` returns, each chunk's part as soon as it is computed."""
        told = 0
        for sequence, _ in self._scored(token_ids):
            yield np.array(sequence.prompt_logprobs[told:], np.float32)
            told = len(sequence.prompt_logprobs)

    def distributions(self, token_ids: Ordered[int]) -> Iterator[FloatArray]:
        """Logits of the tokens 1 to n - 1, each given those before it: f32 [rows, vocab_size], chunk by chunk.

        These are the n - 1 rows that ``score`` reads: row i of all is the distribution of token i + 1, and there is
        none for what would follow the last token. An array may be a view, valid until the next one is asked for. The
        engine must be idle until the iterator ends or is closed.
        """
        for _, outputs in self._scored(token_ids, logits=True):
            yield from (output.prompt_logits for output in outputs if output.prompt_logits is not None)

    def _scored(self, token_ids: Ordered[int], logits: bool = False) -> Iterator[tuple[Sequence, list[Output]]]:
        """Compute a text alone; yield its sequence and what each step gives."""
        self._check_idle()
        nothing = SamplingParams(max_tokens=0)
        request = Request("score", tuple(map(int, token_ids)), nothing, prompt_logprobs=True, prompt_logits=logits)
        self.add(request)
        (sequence,) = self._sequences[request.request_id]
        try:
            while self.has_work:
                yield sequence, self.step()
        finally:
            self.cancel(request.request_id)

    def _check_idle(self) -> None:
        if self.has_work:
            raise RuntimeError("scoring a text needs an idle engine")

    def _postprocess(self, chunks: list[Chunk], result: StepResult) -> list[Output]:
        self.metrics.steps += bool(chunks)
        self.metrics.preemptions = self._scheduler.num_preemptions
        self.metrics.prefix_cache_queries = self.cache.prefix.queries
        self.metrics.prefix_cache_hits = self.cache.prefix.hits
        return [output for chunk in chunks for output in self._advance(chunk, result)]

    def _advance(self, chunk: Chunk, result: StepResult) -> list[Output]:
        sequence = chunk.sequence
        sequence.num_computed = chunk.stop
        self.cache.prefix.add(sequence, chunk.start)
        self.cache.free_unseen(sequence)
        self.metrics.computed_tokens += chunk.stop - chunk.start
        sequence.prompt_logprobs += result.scores.get(sequence, [])
        logits = result.logits.get(sequence)
        handed_out = [] if logits is None else [Output(sequence.request_id, prompt_logits=logits)]
        if sequence in result.tokens:
            return handed_out + [self._append(one, result) for one in (sequence, *self._scheduler.fork(sequence))]
        scored = not sequence.request.generates and sequence.num_pending == 0
        return handed_out + ([self._output(sequence, (), "", "length")] if scored else [])

    def _append(self, sequence: Sequence, result: StepResult) -> Output:
        token_id = result.tokens[sequence]
        sequence.token_ids.append(token_id)
        sequence.metrics.token_times_s.append(self._clock())
        self.metrics.generated_tokens += 1
        text = "" if self._finish_rule.ends(sequence) else sequence.text.add(token_id)
        reason = self._finish_rule.reason(sequence)
        return self._output(sequence, (token_id,), text, reason, result.logprobs.get(sequence))

    def _output(
        self,
        sequence: Sequence,
        token_ids: tuple[int, ...],
        text: str,
        reason: FinishReason | None,
        logprob: TokenLogprob | None = None,
    ) -> Output:
        logprobs = () if logprob is None else (logprob,)
        if reason is None:
            return Output(sequence.request_id, token_ids, text, logprobs, index=sequence.index)
        self._retire(sequence)
        scores = np.array(sequence.prompt_logprobs, np.float32) if sequence.request.prompt_logprobs else None
        text += sequence.text.finish()
        return Output(
            sequence.request_id,
            token_ids,
            text,
            logprobs,
            reason,
            prompt_logprobs=scores,
            metrics=sequence.metrics,
            index=sequence.index,
        )

    def _retire(self, sequence: Sequence) -> None:
        choices = self._sequences[sequence.request_id]
        choices.remove(sequence)
        self._scheduler.finish(sequence)
        sequence.metrics.finished_s = self._clock()
        if not choices:
            del self._sequences[sequence.request_id]
            self.metrics.finished_requests += 1
