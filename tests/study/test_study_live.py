import io
from itertools import count
from pathlib import Path

import pytest
from rich.console import Console

from kvscape.bench import WAITING
from kvscape.errors import ResultsError
from kvscape.study import LiveView
from made_records import made_records


def view(quiet: bool = False, log: Path | None = None) -> tuple[LiveView, io.StringIO]:
    out = io.StringIO()
    seconds = count()
    return LiveView(Console(file=out, width=200), quiet, log, lambda: float(next(seconds))), out


def told(live: LiveView) -> None:
    with live:
        live.start(5)
        live.prune(7)
        for label, status in (("bench [a]", "ok"), ("bench b", "failed"), ("bench c", "kept")):
            live.begin(label)
            live.wait()
            live.end(status, "" if status == "ok" else "why")
        live.show(made_records()[:8])


def test_what_went_wrong_and_the_first_wait_are_lines_above_the_rest() -> None:
    live, out = view()
    told(live)
    assert out.getvalue().splitlines()[:2] == [WAITING, "bench b: failed: why"]
    assert out.getvalue().count(WAITING) == 1


def test_the_view_counts_and_shows_the_front_by_memory() -> None:
    live, out = view()
    told(live)
    text = out.getvalue()
    assert "3/3  1 failed  7 pruned" in text and "left" not in text  # it is done, whatever was expected
    assert "tokens/s" in text and "and 2 more of the front" in text
    sizes = [int(line.split()[4]) for line in text.splitlines() if line.startswith("auto")]
    assert sizes == sorted(sizes) and len(sizes) == 6


def test_a_view_that_is_interrupted_shows_what_was_left() -> None:
    live, out = view()
    with pytest.raises(KeyboardInterrupt), live:
        live.start(5)
        live.begin("bench a")
        live.end("ok", "")
        raise KeyboardInterrupt
    assert "1/5" in out.getvalue() and "left 0:00:" in out.getvalue()


def test_what_runs_is_shown_while_it_does() -> None:
    live, out = view()
    live.start(4)
    live.begin("bench [a]")
    live._console.print(live._picture())
    assert "1 running" in out.getvalue() and "bench [a]" in out.getvalue()


def test_the_time_left_is_what_the_rest_will_take() -> None:
    now = [0.0]
    live = LiveView(Console(file=io.StringIO()), quiet=True, now=lambda: now[0])
    live.start(6)
    assert live.left_s() is None
    for seconds in (2, 4):
        live.begin("a")
        now[0] += seconds
        live.end("ok", "")
    assert live.left_s() == 3 * 4


def test_quiet_says_only_what_went_wrong() -> None:
    live, out = view(quiet=True)
    told(live)
    assert out.getvalue().splitlines() == [WAITING, "bench b: failed: why"]


def test_a_log_has_a_line_for_each_event_and_is_added_to(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "study.log"
    for _ in range(2):
        told(view(quiet=True, log=path)[0])
    lines = [line.split(" ", 1)[1] for line in path.read_text().splitlines()]
    assert lines[:7] == [
        "7 points cannot run", "begin bench [a]", "end bench [a]: ok", "begin bench b", "end bench b: failed: why",
        "begin bench c", "end bench c: kept: why",
    ]  # fmt: skip
    assert len(lines) == 14


def test_a_log_says_how_a_study_ended(tmp_path: Path) -> None:
    live, _ = view(log=tmp_path / "log")
    with pytest.raises(KeyboardInterrupt), live:
        raise KeyboardInterrupt
    assert (tmp_path / "log").read_text().endswith(" ended by KeyboardInterrupt\n")


def test_a_log_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="give another file to --log"):
        view(log=tmp_path)
