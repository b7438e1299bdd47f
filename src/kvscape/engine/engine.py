"""The engine: schedule, run, postprocess, until every request has its answer."""

import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Ordered
from dataclasses import replace
from itertools import count

import numpy as np

from kvscape.analysis.memory import num_pages
from kvscape.config import EngineConfig
from kvscape.engine.admission import check_request, longest_sequence
from kvscape.engine.devices.device import Device, FloatArray
from kvscape.engine.drafting import DraftingScheduler, VerifyingRunner
from kvscape.engine.finish import FinishRule
from kvscape.engine.gauges import Gauges
from kvscape.engine.guide import Guide
from kvscape.engine.guided import GuidedText, Lead
from kvscape.engine.kv_cache import PagedKVCache
from kvscape.engine.metrics import EngineMetrics, RequestMetrics
from kvscape.engine.model_runner import ModelRunner, StepResult
from kvscape.engine.request import FinishReason, Output, Request, SamplingParams
from kvscape.engine.scheduler import Scheduler
from kvscape.engine.sequence import Chunk, Sequence
from kvscape.engine.text import Detokenizer, TextStream
from kvscape.engine.token_logprob import TokenLogprob
from kvscape.errors import ConfigError, EngineError, KvscapeError


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
        self._scheduler, self._runner = self._workers(device)
        self._finish_rule = FinishRule(self.model, self.config)
        self._detokenizer, self._clock = detokenizer, clock
        self._sequences: dict[str, list[Sequence]] = {}
        self._arrivals = count()
        self._batch: list[Chunk] = []
        self._failed: list[str] = []

    def _workers(self, device: Device) -> tuple[Scheduler, ModelRunner]:
        if self.config.prompt_lookup_tokens == 0:
            return Scheduler(self.config, self.cache), ModelRunner(device, self.pools, self.cache)
        longest = longest_sequence(self.model, self.config)
        runner = VerifyingRunner(device, self.pools, self.cache)
        return DraftingScheduler(self.config, self.cache, longest), runner

    @property
    def has_work(self) -> bool:
        """Whether a request waits or runs."""
        return self._scheduler.has_work

    def gauges(self, num_arriving: int = 0) -> Gauges:
        """What it is doing, from any thread; ``num_arriving`` choices more are about to wait."""
        waiting, running = list(self._scheduler.waiting), list(self._scheduler.running)
        pools = self.cache.allocators
        total = sum(pool.num_pages for pool in pools)
        return Gauges(
            running=len(running),
            waiting=len(waiting) + sum(len(one.siblings) for one in (*waiting, *running)) + num_arriving,
            pages_used=total - sum(pool.num_free for pool in pools),
            pages_total=total,
            batch=len(self._batch) if self.has_work else 0,
            metrics=replace(self.metrics),
        )

    def check(self, request: Request) -> None:
        """Raise ConfigError if ``request`` makes no sense, CapacityError if it can never fit; from any thread."""
        check_request(request, self.model, self.config)
        if request.params.stop and (request.detokenizer or self._detokenizer) is None:
            raise ConfigError("stop strings need text", "this engine has no detokenizer", "give it one")

    def add(self, request: Request) -> None:
        """Queue ``request``; raise ConfigError if it makes no sense, CapacityError if it can never fit."""
        self.check(request)
        if request.request_id in self._sequences:
            raise ConfigError(f"request {request.request_id!r} is already there", "ids are unique", "choose another id")
        choices = self._choices(request)
        choices[0].siblings = choices[1:]
        self._sequences[request.request_id] = choices
        self._scheduler.add(choices[0])

    def _choices(self, request: Request) -> list[Sequence]:
        """A sequence for each answer; the first one computes the prompt."""
        arrival, now = next(self._arrivals), self._clock()
        return [self._choice(request, arrival, index, now) for index in range(request.params.n)]

    def _choice(self, request: Request, arrival: int, index: int, now_s: float) -> Sequence:
        guide = request.guide() if request.guide is not None else None
        lead = None if guide is None else Lead(guide, self.model.vocab_size, self.model.eos_token_ids)
        text = self._text(request, guide)
        return Sequence(request.choice(index), text, RequestMetrics(now_s), arrival, index, lead=lead)

    def _text(self, request: Request, guide: Guide | None) -> TextStream:
        made, stop = request.detokenizer or self._detokenizer, request.params.stop
        detokenizer = made() if made else None
        return TextStream(detokenizer, stop) if guide is None else GuidedText(detokenizer, stop, guide)

    def step(self) -> list[Output]:
        """Compute one batch; return what it added to the requests that advanced.

        What the device raises is raised again: the batch is computed anew in the next step, unless ``fail`` ends it.
        What a request's own sampler, guide or text raises ends this request alone, with finish_reason "error".
        """
        chunks = self._batch = self._scheduler.schedule()
        try:
            result = self._runner.run(chunks)
        except BaseException:  # what it was writing may be half written
            self._scheduler.preempt(chunk.sequence for chunk in chunks)
            self._failed = [chunk.sequence.request_id for chunk in chunks]
            raise
        return self._postprocess(chunks, result)

    def turned_away(self, request: Request, error: Exception) -> list[Output]:
        """The last outputs of a request that ``add`` did not take for ``error``."""
        known = _known(error)
        choices = range(request.params.n)
        return [Output(request.request_id, finish_reason="error", index=index, error=known) for index in choices]

    def fail(self, error: Exception) -> list[Output]:
        """End the requests whose step on the device raised ``error``; return their last outputs, if any."""
        failed, self._failed = dict.fromkeys(self._failed), []
        return [output for request_id in failed for output in self._fail(request_id, error)]

    def cancel(self, request_id: str) -> list[Output]:
        """End a request now and free its pages; return the last outputs of the choices that had not ended."""
        outputs: list[Output] = []
        try:
            for sequence in list(self._sequences.get(request_id, ())):
                outputs.append(self._output(sequence, (), "", "cancelled"))  # noqa: PERF401 what is there is kept
        except Exception as error:  # of a text that was held back
            outputs += self._fail(request_id, error)
        return outputs

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
        outputs: list[Output] = []
        if result.verified:
            outputs += [output for sequence in result.verified for output in self._accept(sequence, result)]
            chunks = [chunk for chunk in chunks if chunk.sequence not in result.verified]
        outputs += [output for chunk in chunks for output in self._advance(chunk, result)]
        if result.errors:
            outputs += [last for one, error in result.errors.items() for last in self._fail(one, error)]
        return outputs

    def _advance(self, chunk: Chunk, result: StepResult) -> list[Output]:
        sequence = chunk.sequence
        sequence.num_computed = chunk.stop
        self.cache.prefix.add(sequence, chunk.start)
        self.cache.free_unseen(sequence)
        self.metrics.computed_tokens += chunk.stop - chunk.start
        if result.scores:
            sequence.prompt_logprobs += result.scores.get(sequence, [])
            sequence.prompt_top_logprobs += result.tops.get(sequence, [])
        logits = result.logits.get(sequence)
        outputs = [] if logits is None else [Output(sequence.request_id, prompt_logits=logits)]
        if sequence in result.tokens:
            try:
                siblings = self._scheduler.fork(sequence) if sequence.siblings else ()
                for one in (sequence, *siblings):
                    outputs.append(self._append(one, result.tokens[one], result.logprobs.get(one)))  # noqa: PERF401
            except Exception as error:  # of a text or a guide, or a sibling's in the sampler; what is there is kept
                result.fail(sequence.request_id, error)
        elif not sequence.request.generates and sequence.num_pending == 0:
            outputs.append(self._output(sequence, (), "", "length"))
        return outputs

    def _accept(self, sequence: Sequence, result: StepResult) -> list[Output]:
        """Go on as far as a draft was right, token by token, as if each had been a step."""
        outputs: list[Output] = []
        tokens = result.verified[sequence]
        self.metrics.drafted_tokens += len(sequence.draft)
        self.metrics.accepted_tokens += max(0, len(tokens) - 1)
        self.metrics.computed_tokens += len(sequence.draft) + 1
        try:
            for token_id, logprob in tokens:
                sequence.num_computed += 1
                self.cache.prefix.add(sequence, sequence.num_computed - 1)
                self.cache.free_unseen(sequence)
                outputs.append(self._append(sequence, token_id, logprob))
                if outputs[-1].finish_reason is not None:
                    return outputs
        except Exception as error:  # of its text
            result.fail(sequence.request_id, error)
        self.cache.trim(sequence)
        return outputs

    def _append(self, sequence: Sequence, token_id: int, logprob: TokenLogprob | None) -> Output:
        sequence.token_ids.append(token_id)
        sequence.metrics.token_times_s.append(self._clock())
        self.metrics.generated_tokens += 1
        text = "" if self._finish_rule.ends(sequence) else sequence.text.add(token_id)
        reason = self._finish_rule.reason(sequence)
        return self._output(sequence, (token_id,), text, reason, logprob)

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
            metrics, index = sequence.metrics, sequence.index
            return Output(sequence.request_id, token_ids, text, logprobs, metrics=metrics, index=index)
        text += sequence.text.finish()
        self._retire(sequence)
        scores = np.array(sequence.prompt_logprobs, np.float32) if sequence.request.prompt_logprobs else None
        return Output(
            sequence.request_id,
            token_ids,
            text,
            logprobs,
            reason,
            prompt_logprobs=scores,
            metrics=sequence.metrics,
            index=sequence.index,
            prompt_top_logprobs=tuple(sequence.prompt_top_logprobs),
        )

    def _fail(self, request_id: str, error: Exception) -> list[Output]:
        """End the choices of a request that had not ended."""
        known = _known(error)
        return [self._failure(sequence, known) for sequence in list(self._sequences.get(request_id, ()))]

    def _failure(self, sequence: Sequence, error: KvscapeError) -> Output:
        self._retire(sequence)
        name, metrics, index = sequence.request_id, sequence.metrics, sequence.index
        return Output(name, finish_reason="error", metrics=metrics, index=index, error=error)

    def _retire(self, sequence: Sequence) -> None:
        choices = self._sequences[sequence.request_id]
        choices.remove(sequence)
        self._scheduler.finish(sequence)
        sequence.metrics.finished_s = self._clock()
        if not choices:
            del self._sequences[sequence.request_id]
            self.metrics.finished_requests += 1


def _known(error: Exception) -> KvscapeError:
    if isinstance(error, KvscapeError):
        return error
    known = EngineError("the request failed in the engine", f"{type(error).__name__}: {error}", "report it")
    known.__cause__ = error
    return known
