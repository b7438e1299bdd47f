"""The page in a real browser against a fake server: it chats, stops, says what fails, shows gauges."""

from collections.abc import Iterator
from threading import Event

import pytest
from fake_server import FakeServer, running
from selenium.webdriver.common.keys import Keys

import browser

pytestmark = browser.NEEDED

SHIFT_ENTER = Keys.SHIFT + Keys.ENTER + Keys.SHIFT
MARKDOWN = """\
# Title

Some **bold**, *slanted* and `code <b>`, [a link](https://example.org/x) and [none](javascript:alert(1)).
Next line.
1. one
2. two
   - inner
3. three

```python
print("**plain**")

```

| a | b |
|---|---|
| 1 | 2 |

> said

<img src=x onerror="document.title='broken'"><script>document.title='broken'</script>
"""
_LAST = "[...document.querySelectorAll('article.assistant > div')].at(-1)"
_IDLE = "return !document.getElementById('log').ariaBusy && document.getElementById('stop').hidden"


@pytest.fixture(scope="module")
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture(scope="module")
def address(server: FakeServer) -> Iterator[str]:
    with running(server.app) as address:
        yield address


@pytest.fixture(scope="module")
def window() -> Iterator[browser.Page]:
    with browser.browser(offline=False) as page:
        yield page


@pytest.fixture
def page(window: browser.Page, server: FakeServer, address: str) -> browser.Page:
    server.__dict__.update(answers={}, asked=[], key=None, cut_off=Event())
    window.visit(address)
    window.run("sessionStorage.clear()")
    window.visit(address)
    window.wait("return document.getElementById('model').textContent === 'fake'")
    window.complaints(), window.requests()
    return window


def ask(page: browser.Page, question: str) -> None:
    page.run("document.getElementById('question').focus()")
    page.type(question + Keys.ENTER)


def answer(page: browser.Page, question: str) -> str:
    """Ask, and return the text of the answer when it has ended."""
    ask(page, question)
    page.wait(f"return document.getElementById('stop').hidden && {_LAST}?.nextSibling && {_LAST}.textContent")
    return str(page.run(f"return {_LAST}.textContent"))


def test_a_talk_goes_on_and_is_told_to_the_server(page: browser.Page, server: FakeServer, address: str) -> None:
    server.answers["hi"] = ["Hel", "lo", "."]
    assert answer(page, "hi") == "Hello."
    assert answer(page, "and now?") == "and now?"
    assert [message["content"] for message in server.asked[1]["messages"]] == ["hi", "Hello.", "and now?"]
    assert {key: server.asked[0][key] for key in ("model", "stream", "temperature", "max_tokens")} == {
        "model": "fake", "stream": True, "temperature": 0.7, "max_tokens": 512,
    }  # fmt: skip
    assert "12 tokens" in page.run("return document.querySelector('.note').textContent")
    assert page.complaints() == []
    assert all(url.startswith(address) or url == "data:," for url in page.requests())


def test_settings_are_told_and_live_as_long_as_the_tab(page: browser.Page, server: FakeServer, address: str) -> None:
    page.run("document.querySelector('summary').click()")
    for name, keys in (("system", "Be brief."), ("temperature", "0"), ("max-tokens", "7"), ("api-key", "secret")):
        page.run("document.getElementById(arguments[0]).focus(); document.activeElement.select()", name)
        page.type(keys)
    answer(page, "hi")
    assert server.asked[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (server.asked[0]["temperature"], server.asked[0]["max_tokens"]) == (0, 7)
    page.visit(address)
    values = "return ['system', 'temperature', 'max-tokens', 'api-key'].map((id) => document.getElementById(id).value)"
    assert page.run(values) == ["Be brief.", "0", "7", "secret"]
    assert page.run("return localStorage.length + document.cookie.length") == 0


def test_markdown_is_shown_and_markup_is_text(page: browser.Page, server: FakeServer) -> None:
    server.answers["show"] = [MARKDOWN[start : start + 7] for start in range(0, len(MARKDOWN), 7)]
    answer(page, "show")
    assert page.run(f"return [...{_LAST}.children].map((child) => child.tagName)") == [
        "H3", "P", "OL", "PRE", "DIV", "BLOCKQUOTE", "P",
    ]  # fmt: skip
    assert page.run(f"return [...{_LAST}.querySelectorAll('li')].map((item) => item.firstChild.textContent)") == [
        "one", "two", "inner", "three",
    ]  # fmt: skip
    assert page.run(f"return {_LAST}.querySelector('ol ul li').textContent") == "inner"
    assert page.run(f"return {_LAST}.querySelector('pre').textContent") == 'print("**plain**")\n'
    assert page.run(f"return [...{_LAST}.querySelectorAll('strong, em, p code')].map((one) => one.textContent)") == [
        "bold", "slanted", "code <b>",
    ]  # fmt: skip
    assert page.run(f"return [...{_LAST}.querySelectorAll('a')].map((link) => link.href)") == ["https://example.org/x"]
    assert page.run(f"return [...{_LAST}.querySelectorAll('td, th')].map((cell) => cell.textContent)") == list("ab12")
    assert page.run(f"return {_LAST}.lastChild.textContent").startswith("<img src=x")
    assert page.run("return [document.title, document.images.length, document.scripts.length]") == ["kvscape", 0, 1]
    assert page.complaints() == []


def test_stop_keeps_what_has_come(page: browser.Page, server: FakeServer) -> None:
    server.answers["for ever"] = ["It ", "begins"]
    ask(page, "for ever")
    page.wait(f"return {_LAST}?.textContent === 'It begins'")
    assert page.run("return document.getElementById('send').hidden")
    page.run("document.getElementById('stop').click()")
    page.wait("return document.getElementById('stop').hidden")
    assert page.run("return document.querySelector('.note').textContent") == "stopped"
    assert answer(page, "go on") == "go on"
    assert [message["content"] for message in server.asked[1]["messages"]] == ["for ever", "It begins", "go on"]
    page.type("for ever" + Keys.ENTER)
    page.wait(f"return {_LAST}.textContent === 'It begins'")
    page.type(Keys.ESCAPE)
    page.wait("return document.getElementById('stop').hidden")
    assert server.cut_off.wait(60)


def test_what_fails_is_said_and_the_question_can_be_sent_again(page: browser.Page, server: FakeServer) -> None:
    ask(page, "too much")
    page.wait("return document.getElementById('status').textContent === 'the queue is full (try again in 7 s)'")
    assert page.run("return document.getElementById('question').value") == "too much"
    assert page.run("return document.querySelectorAll('article').length") == 0
    page.run("document.getElementById('question').value = ''")
    server.answers["fail"] = ["half"]
    ask(page, "fail")
    page.wait("return document.getElementById('status').textContent === 'the step failed'")
    assert page.run(f"return {_LAST}.textContent") == "half"
    assert answer(page, "again") == "again"


def test_a_server_that_is_away_is_said_to_be(page: browser.Page) -> None:
    away = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", away)
    ask(page, "hi")
    page.wait("return document.getElementById('status').textContent === 'the server does not answer'")
    assert page.run("return document.getElementById('question').value") == "hi"
    back = {**away, "offline": False, "downloadThroughput": -1, "uploadThroughput": -1}
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", back)
    page.run("document.getElementById('question').value = ''")
    assert answer(page, "again") == "again"


def test_a_key_is_asked_for(page: browser.Page, server: FakeServer, address: str) -> None:
    server.key = "schlüssel 鍵"
    page.visit(address)
    page.wait("return document.activeElement.id === 'api-key'")
    page.type("schlüssel 鍵" + Keys.TAB)
    page.wait("return document.getElementById('model').textContent === 'fake'")
    assert answer(page, "hi") == "hi"


def test_gauges_show_what_the_engine_does(page: browser.Page) -> None:
    read = "return ['occupancy', 'batch', 'queue'].map((id) => document.getElementById(id).textContent)"
    page.wait("return document.getElementById('batch').textContent === '3'")
    assert page.run(read) == ["25 %", "3", "2"]
    page.wait("return Number(document.getElementById('speed').textContent) > 0")


def test_a_new_conversation_forgets(page: browser.Page, server: FakeServer) -> None:
    answer(page, "one" + SHIFT_ENTER + "two")
    assert server.asked[0]["messages"] == [{"role": "user", "content": "one\ntwo"}]
    page.run("document.querySelector('summary').click(); document.getElementById('reset').click()")
    answer(page, "three")
    assert len(server.asked[1]["messages"]) == 1


def test_it_fits_a_phone_and_every_field_has_a_name(page: browser.Page, server: FakeServer) -> None:
    server.answers["wide"] = ["`" + "x" * 300 + "`\n\n```\n" + "y" * 300 + "\n```\n\n" + "long " * 800]
    page.resize(360)
    answer(page, "wide")
    page.run("document.querySelector('summary').click()")
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")
    assert page.run("return document.documentElement.scrollHeight <= innerHeight")
    assert page.run("return document.getElementById('send').getBoundingClientRect().bottom <= innerHeight")
    assert page.run("return [...document.querySelectorAll('input, textarea')].every((one) => one.labels.length)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(page: browser.Page, scheme: str) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    levels = page.run(
        """return ['color', 'background-color'].map((name) =>
        getComputedStyle(document.body).getPropertyValue(name).match(/\\d+/g).map(Number)[1])"""
    )
    assert abs(levels[0] - levels[1]) > 180
    assert (levels[0] > levels[1]) == (scheme == "dark")
