"""`metamem view`: the runs of a folder in a browser, on this machine alone, as they go on.

In: a folder of outputs and a port. Out: a server of pages until it is interrupted. It answers GET and HEAD, to requests
that name this machine as their host, and writes nothing; what is not a run of the folder is not there. Pages run no
script but the two files that come with them; a run's report, which holds its own, is shut into a sandbox.
"""

from __future__ import annotations

import sys
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from metamem import __version__
from metamem.backbones.gateway import HOSTS, LOOPBACK
from metamem.cli.view_pages import Viewer
from metamem.core.errors import ConfigError, DataError, UserError
from metamem.core.registry import load_components
from metamem.reporting.console.text import open_console, say
from metamem.reporting.page import page, static

# Seconds that a client may take to say what it wants.
_PATIENCE = 20
_PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
# A report brings its style and script along; it can ask for nothing, and knows no other page.
_REPORT = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; sandbox allow-scripts allow-forms"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_HTML = "text/html; charset=utf-8"
_STATIC = {
    "report.css": ("text/css; charset=utf-8", ("report.css",)),
    "view.js": ("text/javascript; charset=utf-8", ("tables.js", "view.js")),
}

# Status, kind of content, policy, body.
Answer = tuple[HTTPStatus, str, str, bytes]


def view(outputs: Path, port: int) -> None:
    """Serve until interrupted. Raises `DataError` for a folder that is not there, `ConfigError` for a port that
    is taken.
    """
    server = server_of(outputs, port)
    console = open_console()
    say(console, f"{outputs} at http://{LOOPBACK}:{server.server_port}/ (Ctrl-C ends)", "bold")
    try:
        server.serve_forever()
    except KeyboardInterrupt:  # how it is meant to end
        pass
    finally:
        server.server_close()


def server_of(outputs: Path, port: int) -> ThreadingHTTPServer:
    """Return the server of a folder, listening on the loopback. Raises as `view` does."""
    if not outputs.is_dir():
        raise DataError(f"no such folder: {outputs}")
    load_components()
    viewer, one = Viewer(outputs), threading.Lock()

    class Handler(_Handler):
        def answer(self, path: str, query: Mapping[str, list[str]]) -> Answer:
            # Statistics of one page at a time: this is for one reader, not for many.
            with one:
                return _answer(viewer, path, query)

    try:
        server = ThreadingHTTPServer((LOOPBACK, port), Handler)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--port {port} cannot be had: {error}; choose another, or 0 for any") from None
    server.daemon_threads = True
    return server


def _answer(viewer: Viewer, path: str, query: Mapping[str, list[str]]) -> Answer:
    """What a request for a path is answered with."""
    kind, *rest = [unquote(part) for part in path.split("/")[1:]]
    try:
        if not kind and not rest:
            text = viewer.index()
        elif kind == "leaderboard" and not rest:
            text = viewer.leaderboard()
        elif kind == "compare" and not rest:
            text = viewer.compare(query.get("run", []))
        elif kind == "run" and len(rest) == 2:
            text = viewer.run("/".join(rest))
        elif kind == "report" and len(rest) == 2:
            return HTTPStatus.OK, _HTML, _REPORT, viewer.report("/".join(rest))
        elif kind == "static" and len(rest) == 1 and rest[0] in _STATIC:
            media, names = _STATIC[rest[0]]
            return HTTPStatus.OK, media, _PAGE, static(*names).encode()
        else:
            return _message(HTTPStatus.NOT_FOUND, "Not here", "There is no such page.")
    except DataError as error:
        return _message(HTTPStatus.NOT_FOUND, "Cannot be shown", str(error))
    except UserError as error:
        return _message(HTTPStatus.BAD_REQUEST, "Cannot be shown", str(error))
    return HTTPStatus.OK, _HTML, _PAGE, text.encode("utf-8", "backslashreplace")


def _message(status: HTTPStatus, title: str, text: str) -> Answer:
    made = page("view_message.html.jinja", "", title=title, text=text)
    return status, _HTML, _PAGE, made.encode("utf-8", "backslashreplace")


class _Handler(BaseHTTPRequestHandler, ABC):
    """Answers one request; a subclass says with what."""

    server_version = f"metamem/{__version__}"
    sys_version = ""
    timeout = _PATIENCE

    @abstractmethod
    def answer(self, path: str, query: Mapping[str, list[str]]) -> Answer:
        """Return the answer to a request for a path."""

    def do_GET(self) -> None:
        """Answer with a page."""
        self._respond(body=True)

    def do_HEAD(self) -> None:
        """Answer with what would come before the page."""
        self._respond(body=False)

    def _respond(self, body: bool) -> None:
        if self._foreign():
            # A page in a browser can reach this machine under a name of its own choice.
            answer = _message(HTTPStatus.FORBIDDEN, "Not here", "This server is for the machine that it runs on.")
        else:
            try:
                asked = urlsplit(self.path)
                answer = self.answer(asked.path, parse_qs(asked.query, max_num_fields=100))
            except ValueError:
                answer = _message(HTTPStatus.BAD_REQUEST, "Not here", "The address cannot be read.")
            except Exception:
                traceback.print_exc(file=sys.stderr)
                answer = _message(HTTPStatus.INTERNAL_SERVER_ERROR, "An error", "The terminal shows it.")
        status, media, policy, content = answer
        self.send_response(status)
        headers = {"Content-Type": media, "Content-Length": len(content), "Content-Security-Policy": policy, **_HEADERS}
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _foreign(self) -> bool:
        """Whether the request is meant for another host than this machine, or does not say."""
        host = str(self.headers.get("Host", ""))
        port = self.connection.getsockname()[1]
        return host not in {*(f"{name}:{port}" for name in HOSTS), *(HOSTS if port == 80 else ())}

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each request."""
