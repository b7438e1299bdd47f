"""A real device with one thing wrong: what the equality tests must notice."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from kvscape.artifact import LibraryMetadata
from kvscape.compiler.kernels.cpu.pages import Pages
from kvscape.config import KVPrecision, ModelConfig, Window
from kvscape.engine.devices import StepInput
from kvscape.engine.devices.cpu import CpuDevice
from kvscape.engine.devices.device import Asked, Draw, FloatArray, IntArray, KVPools, Logits
from kvscape.engine.devices.pools import TensorLogits, TensorPools
from kvscape.engine.token_logprob import TokenLogprob

Bytes = npt.NDArray[np.uint8]
Forward = Callable[[StepInput], TensorLogits]


class PoolView:
    """The bytes of a KV pool, [layers, pages, bytes of a page], to be changed in place."""

    def __init__(self, pools: TensorPools, pages: Pages, page_size: int) -> None:
        (tensor,) = pools.pages  # one layer group
        self.bytes: Bytes = np.asarray(np.from_dlpack(tensor), np.uint8)
        self.page_size, self._pages = page_size, pages

    def head(self, head: int) -> tuple[Bytes, Bytes]:
        """All keys and all values of one key head."""
        return self._between(self._pages.keys, head), self._between(self._pages.value, head)

    def scales(self) -> npt.NDArray[np.uint16]:
        """The f16 scales of int8 keys and values, as they lie there: [layers, pages, 2 x heads, tokens]."""
        first = int(self._pages.key_scale(self.page_size, 0, 0))
        scales = self.bytes[..., first:].view(np.uint16)
        return scales.reshape(*scales.shape[:2], -1, self.page_size)

    def key_scales(self, head: int) -> Bytes:
        """What all keys of one head keep beside their codes."""
        return self._between(self._pages.key_scale, head)

    def _between(self, place: Callable[[int, int, int], object], head: int) -> Bytes:
        start, stop = (int(place(self.page_size, h, 0)) for h in (head, head + 1))  # type: ignore[call-overload]
        return self.bytes[..., start:stop]


Mutation = Callable[[Forward, StepInput, PoolView], TensorLogits]


def nothing(forward: Forward, step: StepInput, pool: PoolView) -> TensorLogits:
    return forward(step)


def page_swapped(forward: Forward, step: StepInput, pool: PoolView) -> TensorLogits:
    """Each sequence's first and last page are read in each other's place."""
    (table,) = ([list(row) for row in rows] for rows in step.page_tables)
    for row, length in zip(table, step.kv_lengths, strict=True):
        last = (length - 1) // pool.page_size
        row[0], row[last] = row[last], row[0]
    return forward(step._replace(page_tables=[table]))


def page_of_a_neighbour(forward: Forward, step: StepInput, pool: PoolView) -> TensorLogits:
    """Every table is one page off: it begins with a page that is not its own."""
    (table,) = step.page_tables
    pages = pool.bytes.shape[1]
    return forward(step._replace(page_tables=[[[(page + 1) % pages for page in row] for row in table]]))


def head_zeroed(forward: Forward, step: StepInput, pool: PoolView) -> TensorLogits:
    logits = forward(step)
    for part in pool.head(0):
        part[...] = 0
    return logits


def values_zeroed(forward: Forward, step: StepInput, pool: PoolView) -> TensorLogits:
    """One head's values alone."""
    logits = forward(step)
    pool.head(1)[1][...] = 0
    return logits


def scale_off_by_one(forward: Forward, step: StepInput, pool: PoolView) -> TensorLogits:
    """Each token's scales go to the next token of its page."""
    scales = pool.scales()
    before = scales.copy()
    logits = forward(step)
    written = scales.copy()
    pages, tokens = np.divmod(step.slots[0], pool.page_size)
    scales[...] = before
    scales[:, pages, :, (tokens + 1) % pool.page_size] = written[:, pages, :, tokens]
    return logits


def group_off_by_one(forward: Forward, step: StepInput, pool: PoolView) -> TensorLogits:
    """The scales of a head's int4 keys are those of the page before, and so of the group before."""
    logits = forward(step)
    pool.key_scales(0)[...] = np.roll(pool.key_scales(0), 1, axis=1)
    return logits


def one_key_too_few(forward: Forward, step: StepInput, pool: PoolView) -> TensorLogits:
    """The last query of the shortest sequence does not see the first token; those of longer ones miss some more."""
    recent = max(1, min(step.kv_lengths) - 1)
    return forward(step._replace(windows=[Window(0, recent)]))


def one_key_too_many(forward: Forward, step: StepInput, pool: PoolView) -> TensorLogits:
    """Every query sees the token behind it, too; all are turned by one position more, which changes nothing else."""
    (table,) = step.page_tables
    wider = [[*row, 0] for row in table]
    positions = [position + 1 for position in step.positions]
    return forward(step._replace(positions=positions, page_tables=[wider]))


class MutatedDevice:
    """A ``CpuDevice`` whose every step goes through a mutation."""

    def __init__(self, device: CpuDevice, mutation: Mutation) -> None:
        self._device, self._mutation = device, mutation
        self._page_size, self._kv_dtype = 0, ""

    @property
    def model(self) -> ModelConfig:
        return self._device.model

    @property
    def metadata(self) -> LibraryMetadata:
        return self._device.metadata

    def allocate(
        self, kv_dtype: str, num_pages: Sequence[int], page_size: int, num_tails: int, seen_tokens: int = 0
    ) -> TensorPools:
        self._page_size, self._kv_dtype = page_size, kv_dtype
        return self._device.allocate(kv_dtype, num_pages, page_size, num_tails, seen_tokens)

    def copy(self, pools: KVPools, pages: Sequence[IntArray], tails: IntArray) -> None:
        self._device.copy(pools, pages, tails)

    def forward(self, step: StepInput, pools: KVPools) -> TensorLogits:
        assert isinstance(pools, TensorPools)
        precision = KVPrecision.parse(self._kv_dtype)
        pages = Pages(precision, self.model.num_key_value_heads, self.model.head_dim)
        view = PoolView(pools, pages, self._page_size)
        return self._mutation(lambda mutated: self._device.forward(mutated, pools), step, view)

    def logprobs(self, logits: Logits, token_ids: Sequence[int]) -> FloatArray:
        return self._device.logprobs(logits, token_ids)

    def greedy(self, logits: Logits) -> list[int]:
        return self._device.greedy(logits)

    def sample(self, logits: Logits, draws: Sequence[Draw]) -> list[int]:
        return self._device.sample(logits, draws)

    def token_logprobs(self, logits: Logits, asked: Sequence[Asked]) -> list[TokenLogprob]:
        return self._device.token_logprobs(logits, asked)

    def fetch(self, logits: Logits) -> FloatArray:
        return self._device.fetch(logits)
