"""The page's files and the policy that they come with."""

from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from kvscape.serve import page
from kvscape.serve.page import PAGE_PATHS, page_routes

FOLDER = Path(page.__file__).parent


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI()
    app.include_router(page_routes())
    return TestClient(app)


@pytest.mark.parametrize("path", PAGE_PATHS)
def test_every_file_comes_with_the_policy(client: TestClient, path: str) -> None:
    answer = client.get(path)
    policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in str(policy)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert client.head(path).status_code == 200
    assert client.post(path).status_code == 405


def test_every_file_of_the_folder_is_served(client: TestClient) -> None:
    names = {path.name for path in FOLDER.iterdir() if path.suffix in (".html", ".css", ".js")}
    assert {path.rpartition("/")[2] or "index.html" for path in PAGE_PATHS} == names
    kinds = {path: client.get(path).headers["Content-Type"] for path in PAGE_PATHS}
    assert kinds["/"] == "text/html; charset=utf-8"
    assert kinds["/page/app.js"] == "text/javascript; charset=utf-8"


def test_no_file_names_another_place_or_makes_markup() -> None:
    for path in FOLDER.glob("*.*s*"):
        text = path.read_text()
        assert "https://" not in text and "//cdn" not in text
        assert not any(
            word in text for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(")
        )


def test_the_page_is_no_part_of_the_openapi_document() -> None:
    app = FastAPI()
    app.include_router(page_routes())
    assert app.openapi()["paths"] == {}
