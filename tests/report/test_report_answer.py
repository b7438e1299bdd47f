"""The card says what else there is, what each limit costs, and what is only predicted; text stays text."""

from typing import Any

from kvscape.report.answer import recommendation_card
from made_records import made_records

RECORD = made_records()[0]
OTHER = {"differs": {"kv_dtype": "int8", "context_window_size": 4096}, "metrics": {}, "is_measured": False}
ANSWER: dict[str, Any] = {
    "status": "met",
    "point": RECORD.parameters,
    "metrics": {"decode_tokens_per_s": 150.0, "total_bytes": 100 << 20},
    "commands": ["kvscape chat"],
    "confidence": {"decode_tokens_per_s": "predicted", "total_bytes": "measured"},
    "intervals": {"decode_tokens_per_s": [140.0, 160.0]},
    "runners_up": [
        {**OTHER, "direction": "memory", "changes": {"total_bytes": -0.25, "perplexity": 0.001}},
        {**OTHER, "direction": "ttft", "changes": {"total_bytes": -0.25, "perplexity": 0.001}},
    ],
    "relaxations": [
        {"needed": "--max-ppl-increase 3%", "differs": {"quantization": "q4f16_1"},
         "gains": {"total_bytes": [200 << 20, 150 << 20]}},
    ],
    "elsewhere": [{"engine": "vLLM", "commands": ["vllm serve <x>"], "missing": ["no int4 cache"]}],
    "notes": ["judged by <one> workload"],
}  # fmt: skip


def test_a_predicted_number_says_so_with_its_interval() -> None:
    card = recommendation_card(ANSWER)
    assert "<i>predicted 140.0 to 160.0</i>" in card
    assert card.count("predicted 1") == 1


def test_one_point_that_is_best_in_two_directions_stands_once() -> None:
    assert "<li>memory, ttft: <b>KV int8, context 4,096</b> (predicted): total memory -25%</li>" in recommendation_card(
        ANSWER
    )


def test_a_limit_has_its_flag_and_its_gain() -> None:
    line = "<code>--max-ppl-increase 3%</code>: total memory 150.0 instead of 200.0 MiB (<b>quantization q4f16_1</b>)"
    assert line in recommendation_card(ANSWER)


def test_other_engines_and_notes_stay_text() -> None:
    card = recommendation_card(ANSWER)
    assert "vllm serve &lt;x&gt;\n# no int4 cache" in card and "judged by &lt;one&gt; workload" in card


def test_a_missed_budget_offers_what_would_do() -> None:
    missed = {**ANSWER, "status": "not_met", "reason": "perplexity misses", "relaxations": [
        {"needed": "--max-memory 300MiB", "differs": {}, "gains": {}}]}  # fmt: skip
    card = recommendation_card(missed)
    assert "perplexity misses" in card and "<h3>One of these would do</h3><ul><li><code>--max-memory 300MiB" in card
