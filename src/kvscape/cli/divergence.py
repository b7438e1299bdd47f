"""The flags of ``kvscape ppl`` that keep a reference's distributions or compare with them, and what they do."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvscape.cli.chosen import Flags
from kvscape.cli.loading import done_jit, prepare
from kvscape.cli.progress import perplexity_bar
from kvscape.cli.turn import own_turn
from kvscape.config import DesignPoint
from kvscape.errors import ConfigError

if TYPE_CHECKING:
    from kvscape.quality import Settings, Text
    from kvscape.quality.reference_format import ReferenceFormat
    from kvscape.results import PerplexityRecord
    from kvscape.results.divergence import Divergence
    from kvscape.subjects import Subject

_PANEL = "Divergence"


def _option(flag: str, help_text: str) -> Any:
    return typer.Option(flag, help=help_text, rich_help_panel=_PANEL)


SaveReference = Annotated[
    Path | None, _option("--save-reference", "Keep this run's distributions in a file, to compare others with.")
]
Reference = Annotated[
    Path | None, _option("--reference", "Compare with what --save-reference kept: KL divergence and agreement.")
]
ReferenceQuantization = Annotated[
    str | None,
    _option("--reference-quantization", "Compare with the same model at this quantization, KV f32, run beside it."),
]
ReferenceTopK = Annotated[int, _option("--reference-top-k", "Likeliest tokens whose probabilities are kept exactly.")]
ReferenceRest = Annotated[
    str, _option("--reference-rest", "What is kept of the others: mass (their sum), 8bit or 16bit (each, rounded).")
]
ReferenceLimit = Annotated[str, _option("--reference-limit", "Size of the file at most.")]

_ASKED = ("save_reference", "reference", "reference_quantization")


def wanted(flags: Flags) -> bool:
    """Whether scores alone are not enough."""
    return any(flags[name] is not None for name in _ASKED)


def check(flags: Flags) -> None:
    """Raise an error for a reference that cannot be, before a model is loaded."""
    asked = [f"--{name.replace('_', '-')}" for name in _ASKED if flags[name] is not None]
    if len(asked) > 1:
        raise ConfigError(f"{asked[0]} and {asked[1]}", "a run does one of them", "give one")
    if flags["save_reference"] is not None:
        _form(flags)
    if flags["reference"] is not None:
        from kvscape.quality.reference_logits import find_reference

        find_reference(flags["reference"])


def measure(flags: Flags, point: DesignPoint, settings: "Settings", text: "Text") -> "PerplexityRecord":
    """Measure a prepared point as the flags say."""
    from kvscape.quality.measure_divergence import Measurement, compare_with_file, compare_with_subject, save_reference

    beside = _beside(flags, point)
    with ExitStack() as stack:
        stack.enter_context(own_turn())
        loaded = _load(stack, point, flags, flags["model_lib"])
        reference = _load(stack, beside, flags, None) if beside is not None else None
        run, told = Measurement(loaded, point, settings, text), stack.enter_context(perplexity_bar())
        if reference is not None and beside is not None:
            return compare_with_subject(run, reference, beside, told)
        if flags["reference"] is not None:
            return compare_with_file(run, flags["reference"], told)
        return save_reference(run, flags["save_reference"], *_form(flags), told)


def _load(stack: ExitStack, point: DesignPoint, flags: Flags, model_lib: Path | None) -> "Subject":
    from kvscape.subjects import loaded_subject

    return stack.enter_context(loaded_subject(point, done_jit(flags), model_lib))


def _form(flags: Flags) -> "tuple[ReferenceFormat, int]":
    from kvscape.quality.reference_format import ReferenceFormat
    from kvscape.study.budget import parse_bytes

    return ReferenceFormat(flags["reference_top_k"], flags["reference_rest"]), parse_bytes(flags["reference_limit"])


def _beside(flags: Flags, point: DesignPoint) -> DesignPoint | None:
    """The point of a reference that runs beside the candidate: nothing rounded but by its quantization."""
    if flags["reference_quantization"] is None:
        return None
    build = replace(point.build, quantization=flags["reference_quantization"], embedding_quantization=None)
    engine = replace(point.engine, kv_dtype="f32", sliding_window_size=-1, attention_sink_size=0)
    beside = replace(point, build=build, engine=engine)
    prepare(beside, {**flags, "model_lib": None})
    return beside


def write_table(record: "PerplexityRecord", beside: Path) -> list[Path]:
    """Add a divergence to the table beside the perplexity's: wikitext2_ppl_... becomes wikitext2_kld_results.csv."""
    from kvscape.results.tables import write_divergence_table

    if record.divergence is None:
        return []
    text = beside.name.partition("_ppl_")[0] if "_ppl_" in beside.name else record.text
    path = beside.parent / f"{text}_kld_results.csv"
    write_divergence_table([record], path, keep=True)
    return [path]


def shown(found: "Divergence | None") -> dict[str, Any]:
    """What a person reads of a divergence."""
    if found is None:
        return {}
    bounds = f"{found.mean_kl_low_nats:.5f} to {found.mean_kl_high_nats:.5f}"
    kept = f" ({found.reference['kept']}: {bounds})" if found.reference["kept"] else ""
    return {
        "reference": f"{found.reference['quantization']}, KV {found.reference['kv_dtype']}",
        "mean KL (nats)": f"{found.mean_kl_nats:.5f} ± {found.mean_kl_standard_error_nats:.5f}{kept}",
        "KL at 50, 90, 99 %, most": f"{found.kl_p50_nats:.5f}, {found.kl_p90_nats:.4f}, {found.kl_p99_nats:.3f}, "
        f"{found.kl_max_nats:.2f}",
        "same likeliest token": f"{found.top1_agreement:.2%} ± {found.top1_agreement_standard_error:.2%}",
        "same of the five": f"{found.top5_agreement:.2%}",
        "right token's change": f"{found.mean_probability_change:+.3%} mean, {found.rms_probability_change:.3%} RMS",
        "perplexity ratio": f"{found.perplexity_ratio:.4f} ± {found.perplexity_ratio_standard_error:.4f}",
        "worst token": _worst(found),
    }


def _worst(found: "Divergence") -> str:
    worst = found.worst_tokens[0]
    return (
        f"{worst.context[-40:]!r} {worst.token!r}, KL {worst.kl_nats:.2f}: "
        f"{worst.reference_top[0].token!r} there, {worst.candidate_top[0].token!r} here"
    )
