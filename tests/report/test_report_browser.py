"""The page in a real browser with no network: it draws, sorts, filters, links its plots, and fits a phone and paper."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import browser
from kvscape.report.page import write_page
from kvscape.report.study_figures import study_figures
from kvscape.results import Record
from made_records import made_perplexities, made_records

pytestmark = browser.NEEDED

_SHOWN = """return [...document.querySelectorAll('#points tbody tr')]
  .map((row) => [...row.cells].map((cell) => cell.textContent))"""
_PICKED = "return views.get(arguments[0]).signal('picked')"
# Marks of a map that are not faded out.
_STRONG = """return [...document.querySelectorAll('#' + arguments[0] + ' .mark-symbol.role-mark path')]
  .filter((mark) => mark.getAttribute('aria-roledescription') === 'point' && Number(mark.getAttribute('opacity')) > 0.2)
  .length"""


def records() -> list[Record]:
    """What was measured, each with a prediction beside it, and as many points that were predicted only."""
    measured = [replace(r, predicted=_near(r), samples=_runs(r)) for r in made_records()]
    told = [
        replace(
            r,
            parameters={**r.parameters, "prefill_chunk_size": 128},
            metrics={},
            predicted=_near(r),
            predicted_intervals={"decode_tokens_per_s": [100.0, 900.0]},
            status="predicted",
        )
        for r in made_records()
        if r.status == "ok"
    ]
    return [*measured, *told]


def _near(record: Record) -> dict[str, float]:
    return {name: value * 1.04 for name, value in record.metrics.items()}


def _runs(record: Record) -> dict[str, list[float]]:
    speed = record.metrics.get("decode_tokens_per_s", 0.0)
    return {"decode_tokens_per_s": [speed * 0.9, speed, speed * 1.1]} if speed else {}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("browser") / "report.html"
    made = records()
    answer: dict[str, Any] = {
        "status": "met",
        "point": made[2].parameters,
        "metrics": made[2].metrics,
        "commands": ["kvscape chat --kv-dtype int8 --context-window-size 4096 " + 30 * "--long "],
    }
    sections = study_figures(made, made_perplexities(), made[:3], made[2].parameters)
    write_page(path, "Study made", made, sections, made[:3], answer)
    return path


@pytest.fixture(scope="module")
def page(file: Path) -> Iterator[browser.Page]:
    """Opened once: each test leaves it as it was, in a window of a desk's width."""
    with browser.browser() as page:
        page.open(file)
        yield page


def test_every_plot_is_drawn_without_a_word_or_a_request(page: browser.Page, file: Path) -> None:
    empty = """return [...document.querySelectorAll('figure .view')]
      .filter((view) => !view.querySelector('svg path')).length"""
    assert page.run("return document.querySelectorAll('figure').length") >= 15
    assert page.run(empty) == 0
    assert page.complaints() == []
    assert {url for url in page.requests() if not url.startswith("data:")} == {file.as_uri()}


def test_the_answer_stands_first_and_says_how_far_to_trust_it(page: browser.Page) -> None:
    words = page.run("return document.querySelector('main > section').textContent")
    assert "Recommended" in words and "measured in 3 runs" in words and "decode speed 4.0%" in words


def test_a_heading_sorts_both_ways_and_says_so(page: browser.Page) -> None:
    click = "const b = document.querySelector('[data-sort=total_bytes]'); b.click(); return b.parentElement.ariaSort"
    names = page.run("return [...document.querySelectorAll('#points th button')].map((head) => head.dataset.sort)")
    column = names.index("total_bytes")

    def sizes() -> list[float]:
        return [float(row[column].replace(",", "")) for row in page.run(_SHOWN) if row[column] != "-"]

    assert page.run(click) == "ascending" and sizes() == sorted(sizes()) and len(set(sizes())) > 5
    assert page.run(click) == "descending" and sizes() == sorted(sizes(), reverse=True)
    assert page.run(_SHOWN)[-1][column] == "-"  # what is not known comes last either way
    assert page.run("return document.querySelectorAll('#points [aria-sort=descending]').length") == 1


def test_a_filter_leaves_its_points_in_table_and_plots(page: browser.Page) -> None:
    before = page.run(_STRONG, "pareto_decode")
    page.run("document.querySelectorAll('input[name=kv_dtype]')[1].click()")
    rows = page.run(_SHOWN)
    assert len(rows) == 16 and {row[1] for row in rows} == {"int8"}
    assert page.run("return document.getElementById('count').textContent") == "16 of 33 points"
    page.wait("return views.get('pareto_decode').data('points').length === 16")
    assert 0 < page.run(_STRONG, "pareto_decode") < before
    page.run("document.querySelector('#filters button[type=reset]').click()")
    page.wait("return document.querySelectorAll('#points tbody tr').length === 33")


def frame_of(page: browser.Page, name: str) -> list[float]:
    """Where a plot's inside stands in the window: left, top, right, bottom."""
    script = """const plot = document.querySelector('#' + arguments[0] + ' svg');
      plot.scrollIntoView({ block: 'center' });
      const box = plot.querySelector('.background').getBoundingClientRect();
      return [box.left, box.top, box.right, box.bottom]"""
    found: list[float] = page.run(script, name)
    return found


def let_go(page: browser.Page) -> None:
    page.run("document.querySelector('#filters button[type=reset]').click()")
    page.wait("return views.get('parallel').signal('picked') === null")
    page.wait("return document.querySelectorAll('#points tbody tr').length === 33")


def test_a_brush_in_one_plot_picks_in_the_others_and_in_the_table(page: browser.Page) -> None:
    before = page.run(_STRONG, "pareto_perplexity")
    left, top, right, bottom = frame_of(page, "pareto_decode")
    page.drag((left + 2, top + 2), ((left + right) / 2, bottom - 2))
    picked = page.wait("return views.get('pareto_perplexity').signal('picked')")
    assert 0 < len(picked) < 32
    assert page.run(_PICKED, "parallel") == picked
    page.wait(f"return document.querySelectorAll('#points tbody tr').length === {len(picked)}")
    assert page.run(_STRONG, "pareto_perplexity") < before
    let_go(page)


def test_a_brush_along_an_axis_picks_the_lines_that_cross_it(page: browser.Page) -> None:
    headings = page.run("return axes.map((axis) => axis.heading)")
    left, top, right, bottom = frame_of(page, "parallel")
    x = left + (headings.index("Batch") + 0.5) / len(headings) * (right - left)
    page.drag((x - 5, top + 2), (x + 5, (top + bottom) / 2))
    picked = page.wait("return views.get('pareto_decode').signal('picked')")
    assert len(picked) == 16  # the upper half of the axis: a batch of 4, not of 1
    batches = "return rows.filter((row) => arguments[0][row.id]).map((row) => row.max_batch_size)"
    assert set(page.run(batches, picked)) == {4}
    let_go(page)


def test_a_row_of_the_table_is_ringed_in_the_plots(page: browser.Page) -> None:
    row = page.run(
        """const row = document.querySelector('#points tbody tr');
        row.cells[0].dispatchEvent(new Event('pointerover', { bubbles: true })); return row.dataset.id"""
    )
    page.wait(f"return views.get('pareto_decode').signal('hovered') === {row}")


def test_paper_gets_the_legend_but_no_buttons(page: browser.Page) -> None:
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    seen = "return [...document.querySelectorAll(arguments[0])].filter((e) => e.checkVisibility()).length"
    assert page.run(seen, "fieldset.legend") == 2
    assert page.run(seen, "fieldset:not(.legend), .copy, #shade, #more") == 0
    wide = """return [...document.querySelectorAll('.plot svg')]
      .filter((plot) => getComputedStyle(plot).maxWidth !== '100%').length"""
    assert page.run(wide) == 0
    assert page.pdf().startswith(b"%PDF")
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_phone_scrolls_one_way_only(page: browser.Page, file: Path) -> None:
    page.open(file, width=390)  # opened anew: a small window begins with its filters closed
    assert page.run("return document.documentElement.scrollWidth") == 390
    assert page.run("return document.getElementById('filters').open") is False
    plots = "return [...document.querySelectorAll('#the-map svg')].map((plot) => plot.getBoundingClientRect().right)"
    assert len(page.run(plots)) == 3 and max(page.run(plots)) <= 390
    page.open(file)
