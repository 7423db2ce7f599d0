"""The report in a real browser: it opens without an error, filters, sorts and opens questions, and is quick."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from metamem.reporting.write import write_report
from tests import made_run

BROWSER = next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BROWSER, reason="needs Chromium"),
]


def in_browser(page: Path, actions: str, fragment: str = "") -> dict[str, Any]:
    """What `actions`, the body of an async function given `wait`, returns in the page; errors of the page fail.

    The page tells it by asking a server of this process for an image, which its copy's policy allows.
    """
    outcomes: queue.Queue[str] = queue.Queue()

    class Told(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            outcomes.put(unquote(self.path.partition("?")[2]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Told)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    before = """
<script>
window.pageErrors = [];
addEventListener("error", e => pageErrors.push(String(e.message)));
addEventListener("unhandledrejection", e => pageErrors.push(String(e.reason)));
addEventListener("securitypolicyviolation", e => pageErrors.push("refused: " + e.blockedURI));
console.error = (...said) => pageErrors.push(said.join(" "));
</script>
"""
    after = f"""
<script>
(async () => {{
  const wait = async of => {{ for (let i = 0; i < 500 && !of(); i++) await new Promise(r => setTimeout(r, 2)); }};
  let found = {{}};
  try {{ found = await (async () => {{ {actions} }})(); }} catch (e) {{ pageErrors.push(String(e)); }}
  new Image().src = "{address}/?" + encodeURIComponent(JSON.stringify({{ ...found, errors: pageErrors }}));
}})();
</script>
"""
    text = page.read_text(encoding="utf-8").replace("img-src data:", f"img-src data: {address}")
    tested = page.with_name("tested.html")
    tested.write_text(text.replace("<main>", before + "<main>").replace("</body>", after + "</body>"), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    command = [BROWSER, *flags, f"--user-data-dir={page.parent / 'profile'}", tested.as_uri() + fragment]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        result: dict[str, Any] = json.loads(outcomes.get(timeout=90))
    finally:
        process.terminate()
        process.wait(30)
        server.shutdown()
        server.server_close()
    assert result["errors"] == []
    return result


READY = 'await wait(() => document.querySelector("#list tbody tr")); const form = document.getElementById("filters");'


def test_filtering_sorting_a_cell_and_an_attempt_work(tmp_path: Path) -> None:
    page = write_report(made_run.write(tmp_path / "run", questions=12))
    found = in_browser(
        page,
        READY
        + """
        const rows = () => [...document.querySelectorAll("#list tbody tr")];
        const count = () => document.getElementById("count").textContent;
        const all = count();
        form.elements.verdict.value = "right";
        form.dispatchEvent(new Event("input"));
        await wait(() => count() !== all);
        const right = count();
        document.querySelector("#flips button.gained").click();
        const gained = [count(), form.elements.flip.value, form.elements.system.value];
        const header = document.querySelector('#list thead button[data-sort="question"]');
        const first = rows()[0].textContent;
        header.click();
        const last = rows()[0].textContent;
        rows()[0].querySelector("button").click();
        const dialog = document.getElementById("case");
        return { all, right, gained, first, last, open: dialog.open, said: dialog.textContent };
        """,
    )
    assert found["all"].startswith("24 attempts at 12 questions")
    assert found["right"].startswith("10 attempts")
    assert found["gained"] == ["4 attempts at 4 questions", "gained", "best"]
    assert "question 2 " in found["first"] and "question 10 " in found["last"]
    assert found["open"]
    for part in ("reply text", "verdict text", "a memory 0 of 10", "accepted"):
        assert part in found["said"]


def test_hostile_text_is_shown_and_never_run(tmp_path: Path) -> None:
    hostile = "</script><script>pageErrors.push('ran')</script><img src=x onerror=\"pageErrors.push('ran')\">"
    page = write_report(made_run.write(tmp_path / "run", text=hostile, evidence=hostile))
    found = in_browser(
        page,
        READY
        + """
        document.querySelector("#list tbody tr button").click();
        return { said: document.getElementById("case-body").textContent, images: document.images.length };
        """,
    )
    assert found["said"].count("<script>") >= 5
    assert found["images"] == 0


def test_a_link_with_a_choice_opens_on_it(tmp_path: Path) -> None:
    page = write_report(made_run.write(tmp_path / "run", questions=12))
    actions = READY + "return { system: form.elements.system.value, flip: form.elements.flip.value };"
    assert in_browser(page, actions, "#system=best&flip=lost") == {"system": "best", "flip": "lost", "errors": []}


def test_ten_thousand_attempts_filter_within_200_ms_in_less_than_30_megabytes(tmp_path: Path) -> None:
    words = " ".join(f"word{i % 977}" for i in range(200))
    page = write_report(made_run.write(tmp_path / "run", questions=500, draws=10, text=words[:1000], evidence=words))
    assert page.stat().st_size < 30_000_000
    found = in_browser(
        page,
        READY
        + """
        const times = [];
        for (const text of ["question 7", "question 77 ", "no such words"]) {
          const began = performance.now();
          form.elements.text.value = text;
          const before = document.getElementById("count").textContent;
          form.dispatchEvent(new Event("input"));
          await wait(() => document.getElementById("count").textContent !== before);
          times.push(performance.now() - began);
        }
        return { times, count: document.getElementById("count").textContent };
        """,
    )
    assert found["count"].startswith("0 attempts")
    assert max(found["times"]) < 200
