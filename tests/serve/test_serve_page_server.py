"""The page on a real server with a tiny model."""

import re
from collections.abc import Iterator

import pytest
from selenium.webdriver.common.keys import Keys

import browser
from kvscape import LLM, SamplingParams
from kvscape.engine.async_engine import AsyncEngine
from kvscape.serve import ServeSettings
from serving import MODEL, assert_all_free, borrowing, serving

pytestmark = browser.NEEDED

KEY = "schlüssel"
_ANSWER = "[...document.querySelectorAll('article.assistant > div')].at(-1)"


@pytest.fixture(scope="module")
def page(engine: AsyncEngine, tiny_llm: LLM) -> Iterator[browser.Page]:
    settings = ServeSettings(api_key=KEY)
    with serving(borrowing(engine, tiny_llm, settings)) as url, browser.browser(offline=False) as page:
        page.visit(f"{url}/")
        page.wait("return document.activeElement.id === 'api-key'")
        page.type(KEY + Keys.TAB)
        page.wait(f"return document.getElementById('model').textContent === '{MODEL}'")
        yield page


def ask(page: browser.Page, question: str, max_tokens: int) -> None:
    page.run("document.getElementById('temperature').value = '0'")
    page.run("document.getElementById('max-tokens').value = arguments[0]", str(max_tokens))
    page.run("document.getElementById('question').focus()")
    page.type(question + Keys.ENTER)


def test_an_answer_is_the_engines(page: browser.Page, reference_llm: LLM) -> None:
    expected = reference_llm.chat([{"role": "user", "content": "the thing"}], SamplingParams(max_tokens=24))
    ask(page, "the thing", max_tokens=24)
    note = page.wait(f"return {_ANSWER}?.nextSibling?.textContent")
    shown = str(page.run(f"return {_ANSWER}.textContent"))
    assert letters(shown) == letters(expected.text) != ""
    assert f"{len(expected.token_ids)} tokens" in note
    assert not any("Security Policy" in complaint for complaint in page.complaints())


def letters(text: str) -> str:
    """What Markdown leaves as it is."""
    return re.sub("[^A-Za-z]", "", text)


def test_a_stopped_answer_frees_its_pages(page: browser.Page, engine: AsyncEngine) -> None:
    ask(page, "on and on", max_tokens=400)
    page.wait(f"return {_ANSWER}.textContent.length > 3")
    page.type(Keys.ESCAPE)
    page.wait("return document.getElementById('stop').hidden")
    assert_all_free(engine)


def test_gauges_are_the_engines(page: browser.Page) -> None:
    page.wait("return /^\\d+ %$/.test(document.getElementById('occupancy').textContent)")
    page.wait("return document.getElementById('queue').textContent === '0'")
    page.wait("return Number.isFinite(Number(document.getElementById('speed').textContent))")
