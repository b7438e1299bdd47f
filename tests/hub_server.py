"""The few answers of the Hugging Face hub that a download needs, on this machine."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from urllib.parse import unquote

REPOSITORY = "org/name"
Commits = dict[str, dict[str, bytes]]


class HubServer(ThreadingHTTPServer):
    """Serves one repository, of models or of ``datasets``; ``commits`` maps a revision to its files.

    ``requests`` are the paths asked for, ``ranges`` what was asked of them. Of a file in ``stalled`` the body stops
    after so many bytes, until ``go_on`` is set.
    """

    def __init__(self, commits: Commits, repository: str = REPOSITORY, kind: str = "models") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repository, self.api = repository, f"/api/{kind}/{repository}"
        self.files = f"/{repository}" if kind == "models" else f"/{kind}/{repository}"
        self.commits, self.requests = commits, list[str]()
        self.stalled, self.go_on, self.ranges = dict[str, int](), Event(), list[str]()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


def commit_hash(revision: str) -> str:
    """Return the commit that a revision names: here, a hash of its name; a commit is itself."""
    return revision if len(revision) == 40 else hashlib.sha1(revision.encode()).hexdigest()


@contextmanager
def served(server: HubServer) -> Iterator[HubServer]:
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.requests.append(f"{self.command} {path}")
        if path.startswith(f"{self.server.api}/revision/"):
            return self._revision(unquote(path.rsplit("/", 1)[1]))
        if path.startswith(f"{self.server.api}/tree/"):
            return self._json(self._tree(path.rsplit("/", 1)[1]))
        if path.startswith(f"{self.server.files}/resolve/"):
            commit, _, name = path.removeprefix(f"{self.server.files}/resolve/").partition("/")
            return self._file(commit_hash(unquote(commit)), name, with_body)
        return self._refuse("RepoNotFound")

    def _files(self, commit: str) -> dict[str, bytes]:
        return next((files for name, files in self.server.commits.items() if commit in (name, commit_hash(name))), {})

    def _revision(self, revision: str) -> None:
        if revision not in self.server.commits:
            return self._refuse("RevisionNotFound")
        return self._json({"id": self.server.repository, "sha": commit_hash(revision), "siblings": []})

    def _tree(self, commit: str) -> list[dict[str, object]]:
        return [
            {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for path, content in self._files(commit).items()
        ]

    def _file(self, commit: str, path: str, with_body: bool) -> None:
        content = self._files(commit).get(path)
        if content is None:
            return self._refuse("EntryNotFound")
        # As the hub does: of a large file the sha256, of others git's hash.
        etag = hashlib.sha256(content) if len(content) > 1 << 20 else hashlib.sha1(content)
        headers = {"ETag": f'"{etag.hexdigest()}"', "X-Repo-Commit": commit}
        if asked := self.headers.get("Range"):
            self.server.ranges.append(asked)
            first, _, last = asked.removeprefix("bytes=").partition("-")
            end = min(int(last) + 1 if last else len(content), len(content))
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(content)}"
            content = content[int(first) : end]
        self._headers(len(content), headers, 206 if asked else 200)
        if with_body:
            self._body(content, self.server.stalled.get(path, len(content)))
        return None

    def _body(self, content: bytes, before_stall: int) -> None:
        with suppress(ConnectionError):
            self.wfile.write(content[:before_stall])
            if before_stall < len(content):
                self.wfile.flush()
                self.server.go_on.wait()
            self.wfile.write(content[before_stall:])

    def _json(self, value: object) -> None:
        content = json.dumps(value).encode()
        self._headers(len(content), {"Content-Type": "application/json"})
        self.wfile.write(content)

    def _headers(self, length: int, more: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **more}.items():
            self.send_header(name, value)
        self.end_headers()

    def _refuse(self, code: str) -> None:
        self._headers(0, {"X-Error-Code": code}, status=404)
