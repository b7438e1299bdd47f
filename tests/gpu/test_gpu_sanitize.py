"""All parts of the kernels go through all tools, and what these say is told; the tool here is a shell script."""

import sys
from pathlib import Path

import kernels
import pytest
import sanitize

CLEAN = {
    "racecheck": "RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)",
    "memcheck": "ERROR SUMMARY: 0 errors",
}


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, lines: str, *flags: str) -> int:
    """The status, where the tool does what ``lines`` say of ``$2``, its name, and of the part, ``$part``."""
    program = folder / "tool"
    program.write_text(f'#!/bin/bash\npart="${{8}}"\n{lines}\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", ["sanitize.py", "run", str(folder), "--sanitizer", str(program), *flags])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    return sanitize.main()


def said(tool: str, text: str) -> str:
    return f'[ "$2" = {tool} ] && echo "========= {text}"'


USUAL = "\n".join([*(said(tool, text) for tool, text in CLEAN.items()), "true"])


def test_all_parts_go_through_all_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = 'echo "$@" >> ' + str(tmp_path / "asked")
    assert run(tmp_path, monkeypatch, f"{asked}\n{USUAL}") == 0
    *lines, race, memory, _ = capsys.readouterr().out.splitlines()
    names = [part.name for part in kernels.parts()]
    assert sorted(line.split()[0] for line in lines) == ["memcheck"] * len(names) + ["racecheck"] * len(names)
    assert f"racecheck: {len(names)} of {len(names)} parts, 0 bad" in race and "memcheck" in memory
    calls = (tmp_path / "asked").read_text().splitlines()
    for tool in CLEAN:
        for name in names:
            (call,) = (call for call in calls if f"--tool {tool} " in call and f"--only {name} --small" in call)
            assert str(sanitize.library(tmp_path, name)) in call


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (said("racecheck", "RACECHECK SUMMARY: 2 hazards displayed (2 errors, 0 warnings)"), "2 hazards"),
        (f"{USUAL}; echo 1 bad; exit 1", "status 1"),
        ("echo no such tool", "no such tool"),
        ("exit 3", "status 3"),
    ],
)
def test_what_is_found_is_told(
    lines: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--tools", "racecheck", "--only", "rows")
    assert run(tmp_path, monkeypatch, lines, *flags) == 1
    printed = capsys.readouterr().out
    assert "BAD" in printed and told in printed and "1 bad, rows" in printed


def test_one_that_does_not_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--tools", "racecheck", "--only", "rows", "--limit", "0.2")
    assert run(tmp_path, monkeypatch, "cat < /dev/zero > /dev/null", *flags) == 1
    assert "no end after 0.2 s" in capsys.readouterr().out


def test_each_part_is_built_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: dict[str, list[str]] = {}
    monkeypatch.setattr(
        kernels, "build", lambda file, _, parts: built.update({file.name: [each.name for each in parts]})
    )
    monkeypatch.setattr(sys, "argv", ["sanitize.py", "build", str(tmp_path)])
    assert sanitize.main() == 0
    assert list(built.values()) == [[part.name] for part in kernels.parts()]
