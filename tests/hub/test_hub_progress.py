"""What a download shows."""

import io

from rich.console import Console

from kvscape.hub import DownloadBar


class Clock:
    def __init__(self) -> None:
        self.time_s = 0.0

    def __call__(self) -> float:
        return self.time_s


def plain(stream: io.StringIO) -> Console:
    return Console(file=stream, width=80, force_terminal=False)


def test_without_a_terminal_a_line_comes_now_and_then() -> None:
    stream, clock = io.StringIO(), Clock()
    with DownloadBar(plain(stream), clock) as bar:
        for second in range(12):
            clock.time_s = float(second)
            bar("downloading x", second * 1_000_000, 20_000_000)
        bar("downloading x", 20_000_000, 20_000_000)
        bar("downloading x", 20_000_000, 20_000_000)
    assert stream.getvalue().splitlines() == [
        "downloading x: 0 bytes of 20.0 MB (0%)",
        "downloading x: 5.0 MB of 20.0 MB (25%)",
        "downloading x: 10.0 MB of 20.0 MB (50%)",
        "downloading x: 20.0 MB of 20.0 MB (100%)",
    ]


def test_an_unknown_total_is_not_shown() -> None:
    stream = io.StringIO()
    with DownloadBar(plain(stream), Clock()) as bar:
        bar("x", 3_000, None)
    assert stream.getvalue() == "x: 3.0 kB\n"


def test_a_terminal_shows_a_bar_with_speed_and_time_left() -> None:
    stream = io.StringIO()
    with DownloadBar(Console(file=stream, width=100, force_terminal=True)) as bar:
        bar("downloading x", 10_000_000, 20_000_000)
        bar("downloading x", 20_000_000, 20_000_000)
    assert "downloading x" in stream.getvalue()
    assert "20.0 MB of 20.0 MB" in stream.getvalue()


def test_a_warm_cache_shows_nothing() -> None:
    stream = io.StringIO()
    with DownloadBar(Console(file=stream, force_terminal=True)):
        pass
    assert stream.getvalue() == ""


def test_work_without_a_size_says_when_it_begins_and_ends() -> None:
    stream = io.StringIO()
    with DownloadBar(plain(stream), Clock()) as bar:
        bar("compile", 0, None)
        bar("compile", 0, 0)
    assert stream.getvalue().splitlines() == ["compile: begins", "compile: done"]
