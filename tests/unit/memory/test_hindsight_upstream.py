"""Hindsight's own client before a small server of its protocol: dates, sessions, waiting and failures are ours."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from metamem.core.banks import MemoryBank
from metamem.core.errors import ConfigError, MissingExtraError
from metamem.core.records import Conversation, Session, Turn
from metamem.core.registry import build, load_components
from tests.writing import Scripted, write

if find_spec("hindsight_client") is None:
    pytest.skip("hindsight-client is not installed (the extra hindsight)", allow_module_level=True)
load_components()
pytestmark = pytest.mark.slow  # the package takes seconds to import
TALK = Conversation(
    "c",
    tuple(
        Session(
            f"s{day}",
            datetime(2023, 5, day, 9),
            tuple(Turn(f"{day}:{i}", "user", f"word{day}x{i}", "Ann") for i in (0, 1)),
        )
        for day in (3, 8)
    ),
)


class Protocol:
    """What the server of the tests holds, and how it is to fail; facts are the words, an observation has them all."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.retained: list[dict[str, Any]] = []
        self.units: list[dict[str, Any]] = []
        self.busy = 0  # looks at pending work that still find some
        self.failed: list[str] = []
        self.refuse = ""

    def reply(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        what = path.removeprefix("/v1/default/banks/").partition("/")[2]
        self.asked.append((method, what or path))
        if path == "/version":
            names = ("observations", "mcp", "worker", "bank_config_api", "bank_llm_health", "file_upload_api")
            return 200, {"api_version": "1.1.0", "features": _features(names)}
        if method == "DELETE":
            held, self.units = bool(self.units), []
            return (200, {"success": True}) if held else (404, {"detail": "no such bank"})
        if method == "PUT":
            traits = {"skepticism": 3, "literalism": 3, "empathy": 3}
            return 200, {"bank_id": "b", "name": "b", "disposition": traits, "mission": ""}
        if what == "memories":
            (item,) = body["items"]
            if self.refuse and self.refuse in item["content"]:
                return 500, {"detail": "the model is gone"}
            self.retained.append(item)
            for word in re.findall(r"word\w+", item["content"]):
                named = {"document_id": item["document_id"], "fact_type": "world", "state": "valid"}
                self.units.append({"id": f"random{len(self.units)}", "text": f"It is about {word}", **named})
            usage = {"input_tokens": 7, "output_tokens": 2, "total_tokens": 9}
            return 200, {"success": True, "bank_id": "b", "items_count": 1, "async": False, "usage": usage}
        if what == "operations":
            (status,) = query["status"]
            self.busy -= status == "pending" and self.busy > 0
            found = self.failed if status == "failed" else ["work"] * (status == "pending" and self.busy > 0)
            made = {"id": "1", "task_type": "consolidation", "items_count": 1, "created_at": "", "status": status}
            rows = [{**made, "error_message": text} for text in found]
            return 200, {"bank_id": "b", "total": len(rows), "limit": 20, "offset": 0, "operations": rows}
        assert what == "memories/list"
        proves = [unit["id"] for unit in self.units]
        seen = {"id": "seen", "text": "She says words", "fact_type": "observation", "source_memory_ids": proves}
        offset, rows = int(query["offset"][0]), [*self.units[::-1], seen]
        # Fewer than were asked for: the client goes on from what it has.
        return 200, {"items": rows[offset : offset + 2], "total": len(rows), "limit": 2, "offset": offset}


def _features(names: tuple[str, ...]) -> dict[str, bool]:
    more = ("document_export_api", "document_import_api", "audit_log", "llm_trace", "store_document_text")
    return dict.fromkeys((*names, *more), True)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Protocol]]:
    protocol = Protocol()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            where = urlsplit(self.path)
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.loads(sent) if sent else None
            status, made = protocol.reply(self.command, where.path, parse_qs(where.query), body)
            data = json.dumps(made).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = answer

        def log_message(self, *given: Any) -> None:
            pass

    monkeypatch.setattr("metamem.memory.adapters.hindsight._POLL", 0.0)
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}", protocol
    listening.shutdown()
    thread.join()
    listening.server_close()


def memory(url: str, **options: Any) -> Any:
    return build("memory", {"name": "hindsight_upstream", "base_url": url, "models": "the tests'", **options})


def written(url: str) -> MemoryBank:
    return write(memory(url), TALK, Scripted(lambda place, text: "unused"))


def test_sessions_are_told_in_order_with_their_times_and_what_is_listed_knows_its_session(
    server: tuple[str, Protocol],
) -> None:
    url, protocol = server
    protocol.busy = 3
    bank = written(url)
    assert [(item["document_id"], item["timestamp"], item["content"]) for item in protocol.retained] == [
        ("s3", "2023-05-03T09:00:00", "Ann: word3x0\nAnn: word3x1"),
        ("s8", "2023-05-08T09:00:00", "Ann: word8x0\nAnn: word8x1"),
    ]
    assert [(u.kind, u.text, u.session_id) for u in bank.units] == [
        ("fact", "It is about word3x0", "s3"),
        ("fact", "It is about word3x1", "s3"),
        ("fact", "It is about word8x0", "s8"),
        ("fact", "It is about word8x1", "s8"),
        ("observation", "She says words", "s8"),
    ]
    assert bank.complete and bank.units[0].time == datetime(2023, 5, 3, 9)
    assert (bank.counts["server_prompt_tokens"], bank.counts["server_completion_tokens"]) == (14, 4)
    asked = [what for what in protocol.asked if what[1] != "/version"]
    first, second = [n for n, what in enumerate(asked) if what == ("POST", "memories")]
    assert ("GET", "operations") in asked[first:second], "nothing is told while work is put off"
    assert [method for method, _ in asked if method == "DELETE"] == ["DELETE"] * 2 and asked[-1][0] == "DELETE"
    assert written(url).units == bank.units


@pytest.mark.parametrize("reason", ["the model is gone", "no reply for two hours"])
def test_a_request_or_work_that_fails_is_a_lost_call_and_no_memory(server: tuple[str, Protocol], reason: str) -> None:
    url, protocol = server
    if "model" in reason:
        protocol.refuse = "word8"
    else:
        protocol.failed = [reason]
    bank = written(url)
    assert (bank.complete, bank.units) == (False, ())
    assert len(bank.unread) == 1 and reason in bank.unread[0].reason


def test_the_server_its_version_and_its_models_are_asked_for_before_anything_starts(
    server: tuple[str, Protocol],
) -> None:
    url, _ = server
    identity = memory(url).identity()
    assert identity["package"]["name"] == "hindsight_client" and identity["package"]["version"] == "1.1.0"
    with pytest.raises(ConfigError, match=r"memory\.models"):
        memory(url, models="").identity()
    with pytest.raises(ConfigError, match=r"memory\.base_url: expected an address on this machine"):
        memory("http://hindsight.example:8888")
    with pytest.raises(MissingExtraError) as caught:
        memory("http://127.0.0.1:9")
    assert "metamem gateway" in str(caught.value) and "hindsight/bin/hindsight-api" in str(caught.value)
