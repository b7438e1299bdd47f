"""The memory of an engine term by term: what is multiplied, in the words of the formula."""

from collections.abc import Iterator
from dataclasses import dataclass

from kvscape.analysis.memory import Workspace, num_pages, page_bytes, runtime_bytes, tail_bytes
from kvscape.config import EngineConfig, ModelConfig


@dataclass(frozen=True)
class Term:
    """A part of ``total_bytes``: ``formula`` says where ``of`` (weights, kv_cache, workspace, runtime) has it from."""

    of: str
    nbytes: int
    formula: str


def memory_terms(
    model: ModelConfig, config: EngineConfig, weights_bytes: int, workspace: Workspace
) -> tuple[Term, ...]:
    """Split the bytes of an engine; the sum is ``predict_memory``'s ``total_bytes``."""
    weights = Term("weights", weights_bytes, "codes, scales and norms")
    own = f"compiled code, and a tokenizer of {model.vocab_size:,} entries"
    own = "what the GPU's driver takes for a process" if workspace.on_gpu else own
    runtime = Term("runtime", runtime_bytes(model, workspace), own)
    return (weights, *_kv_terms(model, config, workspace.spare), *_workspace_terms(config, workspace), runtime)


def _kv_terms(model: ModelConfig, config: EngineConfig, spare: int) -> Iterator[Term]:
    one_page = page_bytes(model, config.kv_dtype, config.page_size)
    for group in model.layer_groups:
        layers, pages = len(group.layers), num_pages(config, group) + spare
        formula = f"{layers} layers x {pages:,} pages x {one_page:,} B"
        yield Term("kv_cache", layers * pages * one_page, f"{formula} ({config.kv_dtype}, {config.page_size} tokens)")
        tails, one_tail = config.max_batch_size + spare, tail_bytes(model, config.kv_dtype)
        if one_tail:
            formula = f"{layers} layers x {tails} tails x {one_tail:,} B (keys of unfinished groups)"
            yield Term("kv_cache", layers * tails * one_tail, formula)


def _workspace_terms(config: EngineConfig, workspace: Workspace) -> Iterator[Term]:
    """The busiest step, as ``predict_memory`` has it."""
    tokens, batch, logit_rows, tiles = workspace.busiest(config)
    yield Term("workspace", workspace.fixed_bytes, "whatever the step")
    for number, of, each in (
        (tokens, "tokens of a step", workspace.bytes_per_token),
        (batch, "sequences", workspace.bytes_per_sequence),
        (logit_rows, "rows of logits", workspace.bytes_per_logit_row),
        (tiles, "tiles of attention", workspace.bytes_per_tile),
    ):
        yield Term("workspace", number * each, f"{number:,} {of} x {each:,} B")
    yield Term("workspace", workspace.gap_bytes, "between its tensors")
