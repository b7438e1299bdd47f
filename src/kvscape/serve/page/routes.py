"""The page's files, as they are, under a policy that lets them reach this server and nothing else."""

from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from types import MappingProxyType

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "data:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    # no text can become markup, by whatever way
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
_HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_SCRIPTS = ("app.js", "completion.js", "gauges.js", "markdown.js")
_FILES: Mapping[str, str] = MappingProxyType(
    {"/": "index.html"} | {f"/page/{name}": name for name in ("style.css", *_SCRIPTS)}
)
PAGE_PATHS = tuple(_FILES)


def page_routes() -> APIRouter:
    """Return the routes of the page; they are no part of the OpenAPI document."""
    router = APIRouter(include_in_schema=False)
    for path, name in _FILES.items():
        router.add_route(path, _file(name), methods=["GET"])
    return router


def _file(name: str) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers with one file, which is read once."""
    content, kind = (files("kvscape.serve.page") / name).read_bytes(), _KINDS[name.rpartition(".")[2]]

    async def answer(request: Request) -> Response:
        return Response(content, media_type=f"{kind}; charset=utf-8", headers=_HEADERS)

    return answer
