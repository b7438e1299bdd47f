"""References on disk: what is read is what was written, and nothing is compared with what it does not belong to."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_logits import direct_kl
from table_subject import TableSubject

from kvscape.artifact.tensor_writer import write_tensors
from kvscape.config import DesignPoint
from kvscape.errors import ConfigError, ResultsError
from kvscape.plain_text import Text
from kvscape.quality.comparison import Comparison
from kvscape.quality.protocols import Settings, Window
from kvscape.quality.reference import LiveReference, Reference, StoredReference
from kvscape.quality.reference_facts import ReferenceFacts, reference_facts
from kvscape.quality.reference_format import ReferenceFormat
from kvscape.quality.reference_logits import find_reference, saved_reference
from kvscape.quality.row_scorer import RowScorer

TOKENS = np.random.default_rng(3).integers(0, 60, (3, 40)).tolist()
WINDOWS = [Window(TOKENS[0], 1), Window(TOKENS[1], 1), Window(TOKENS[2], 21)]
SCORED = 39 + 39 + 19
EXACT = ReferenceFormat(59, "mass")
SETTINGS, TEXT = Settings("windows", 40, 3), Text("letters", "abc")
ORIGINAL, CANDIDATE = TableSubject(), TableSubject(noise=0.1, chunk=16)


def facts(subject: TableSubject = ORIGINAL, form: ReferenceFormat = EXACT, **others: Any) -> ReferenceFacts:
    made = {"point": DesignPoint(), "settings": SETTINGS, "text": TEXT, "windows": WINDOWS, **others}
    return reference_facts(subject, form=form, **made)


def save(path: Path, subject: TableSubject = ORIGINAL, form: ReferenceFormat = EXACT) -> Path:
    with saved_reference(path, facts(subject, form)) as writer:
        scorer = RowScorer(subject, WINDOWS, lambda window, logits, targets: writer.add(logits, targets))
        for window in WINDOWS:
            for _ in scorer.score_chunks(window.token_ids):
                pass
    return path


def compared(reference: Reference, candidate: TableSubject = CANDIDATE) -> Comparison:
    comparison = Comparison(reference)
    scorer = RowScorer(candidate, WINDOWS, comparison.look)
    for window in WINDOWS:
        for _ in scorer.score_chunks(window.token_ids):
            pass
    return comparison


def expected(window: Window) -> Any:
    rows = slice(window.first_target - 1, None)
    return direct_kl(ORIGINAL.logits(window.token_ids)[rows], CANDIDATE.logits(window.token_ids)[rows])


def references(path: Path) -> list[Reference]:
    return [
        LiveReference(ORIGINAL, WINDOWS),
        *(
            StoredReference(find_reference(save(path, form=form)))
            for form in (EXACT, ReferenceFormat(5, "16bit"), ReferenceFormat(58, "8bit"))
        ),
    ]


def test_a_reference_gives_the_same_beside_the_candidate_and_from_its_file(tmp_path: Path) -> None:
    for reference in references(tmp_path / "one.reference"):
        for window, found in zip(WINDOWS, compared(reference).windows, strict=True):
            np.testing.assert_allclose(found.kl, expected(window), atol=1e-5)
            np.testing.assert_array_equal(found.targets, window.token_ids[window.first_target :])


def test_scores_are_those_of_the_right_tokens(tmp_path: Path) -> None:
    for window, found in zip(WINDOWS, compared(LiveReference(ORIGINAL, WINDOWS)).windows, strict=True):
        for subject, logprobs in ((ORIGINAL, found.reference_logprobs), (CANDIDATE, found.candidate_logprobs)):
            logits = subject.logits(window.token_ids)[window.first_target - 1 :].astype(np.float64)
            chosen = logits[np.arange(len(logits)), found.targets] - np.log(np.exp(logits).sum(axis=1))
            np.testing.assert_allclose(logprobs, chosen, atol=1e-6)


def test_what_does_not_count_is_no_score() -> None:
    scorer = RowScorer(CANDIDATE, WINDOWS[2:], Comparison(LiveReference(ORIGINAL, WINDOWS[2:])).look)
    scores = np.concatenate(list(scorer.score_chunks(WINDOWS[2].token_ids)))
    assert scores.shape == (39,) and (scores[:20] == 0).all() and (scores[20:] < 0).all()


def test_windows_come_in_their_order() -> None:
    scorer = RowScorer(CANDIDATE, WINDOWS, Comparison(LiveReference(ORIGINAL, WINDOWS)).look)
    with pytest.raises(RuntimeError, match="window 0"):
        next(scorer.score_chunks(WINDOWS[1].token_ids))


def test_a_reference_says_what_it_is_of(tmp_path: Path) -> None:
    found = find_reference(save(tmp_path / "one.reference"))
    assert found.facts == facts()
    assert (found.facts.rows, found.facts.windows, found.facts.build_key) == (SCORED, 3, "table")
    assert found.facts.settings["protocol"] == "windows" and found.facts.parameters["kv_dtype"] == "f16"


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), saved_reference(tmp_path / "one.reference", facts()) as writer:
        writer.add(ORIGINAL.logits(TOKENS[0]), np.array(TOKENS[0][1:]))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_lacks_rows_is_no_reference(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match=f"{SCORED} rows got 39"),
        saved_reference(tmp_path / "one.reference", facts()) as writer,
    ):
        writer.add(ORIGINAL.logits(TOKENS[0]), np.array(TOKENS[0][1:]))
    assert list(tmp_path.iterdir()) == []


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def removed(path: Path) -> None:
    path.unlink()


def other_tensors(path: Path) -> None:
    write_tensors(path, {"weights": np.zeros(3, np.float32)})


def of_facts(text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        write_tensors(path, {"facts": np.frombuffer(text.encode(), np.uint8)})

    return write


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (truncated, "bytes"),
        (emptied, "its header does not fit into its 0 bytes"),
        (removed, "No such file"),
        (other_tensors, "it holds other tensors"),
        (of_facts(json.dumps({"version": 9})), "its version is 9, this kvscape reads 1"),
        (of_facts("{"), "Expecting"),
        (of_facts("[]"), "'list' object"),
        (of_facts(facts().to_json()), "its tensors are not those that it says it has"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, damage: Callable[[Path], None], why: str) -> None:
    path = save(tmp_path / "one.reference")
    damage(path)
    with pytest.raises(ResultsError) as caught:
        find_reference(path)
    line = str(caught.value)
    assert str(path) in line and why in line and "make it again with --save-reference" in line and "\n" not in line


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (facts(TableSubject(letters="y")), "another tokenizer: 60 tokens there, 60 here, not the same ones"),
        (facts(TableSubject(vocab_size=64)), "another tokenizer: 60 tokens there, 64 here"),
        (facts(text=Text("digits", "123")), "another text: letters there, digits here"),
        (facts(settings=replace(SETTINGS, limit=2)), "another protocol: limit 3 there, limit 2 here"),
        (facts(windows=WINDOWS[:2]), "other tokens"),
    ],
)
def test_what_it_does_not_belong_to_is_refused_in_one_line(wanted: ReferenceFacts, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        facts().check_same(wanted, "one.reference")


def test_another_build_of_the_same_model_is_what_it_is_for() -> None:
    facts().check_same(facts(TableSubject(noise=1, build_key="other"), ReferenceFormat(8)), "one.reference")
