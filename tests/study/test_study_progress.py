import io

from rich.console import Console

from kvscape.bench import WAITING
from kvscape.study import ProgressBar


def lines(bar_output: io.StringIO) -> list[str]:
    return bar_output.getvalue().splitlines()


def test_what_went_wrong_and_the_first_wait_are_lines() -> None:
    out = io.StringIO()
    with ProgressBar(Console(file=out, width=200)) as progress:
        progress.start(3)
        for label, status in (("bench a", "ok"), ("bench b", "failed"), ("bench c", "ok")):
            progress.begin(label)
            progress.wait()
            progress.end(status, "why")
    assert lines(out)[:2] == [WAITING, "bench b: failed: why"]
    assert out.getvalue().count(WAITING) == 1
