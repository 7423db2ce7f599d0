"""Programs that start from a process which has trained once already: in a third of the time of a new interpreter.

A program that is started here has a process, a command line, an environment, signals and an end of its own. Not its own
are the seed of the hashes of strings and what is imported or kept at its beginning: tests that mean those start it
afresh.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]


def environment(**more: str) -> dict[str, str]:
    """The environment of a program that is started: without this process's hub, keys and sweep."""
    dropped = ("OPENAI_", "WANDB_", "METAMEM_", "HYDRA_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    return {**kept, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", **more}


class Forked:
    """A program that runs beside this process; used as a `subprocess.Popen[str]` is."""

    def __init__(self, script: Path, arguments: list[str], environment: dict[str, str]) -> None:
        output, writes = os.pipe()
        self._told, tells = os.pipe()
        asked = {"script": str(script), "arguments": arguments, "environment": environment, "folder": str(Path.cwd())}
        text = json.dumps(asked).encode()
        server = _server(environment.get("PYTHONPATH", ""))
        socket.send_fds(server, [len(text).to_bytes(8, "big")], [writes, tells])
        server.sendall(text)
        os.close(writes)
        os.close(tells)
        self.stdout: IO[str] = os.fdopen(output, encoding="utf-8")
        self.returncode: int | None = None
        self.pid = int(self._line())

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            read = os.read(self._told, 1)
            if not read:
                raise RuntimeError("the process that programs are forked from has ended")
            line += read
        return line

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return its exit code, or minus the signal that ended it."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a forked program", timeout or 0.0)
            self.returncode = int(self._line())
            os.close(self._told)
        return self.returncode

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = 300) -> tuple[str, None]:
        """Return what it still prints when it has ended."""
        end, printed = time.monotonic() + timeout, b""
        with self.stdout.buffer as stream:
            while select.select([stream], [], [], max(0.0, end - time.monotonic()))[0]:
                read = os.read(stream.fileno(), 1 << 16)
                if not read:
                    self.wait(max(0.0, end - time.monotonic()))
                    return printed.decode(), None
                printed += read
        raise subprocess.TimeoutExpired("a forked program", timeout, printed)


@cache
def _server(path: str) -> socket.socket:
    """A connection to the process that programs with this PYTHONPATH are forked from; it ends with the connection."""
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), path)))}
    ours, theirs = socket.socketpair()
    with theirs:
        subprocess.Popen(
            # A forked program has none of the threads that may be here, and needs none.
            [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.forked", str(theirs.fileno())],
            cwd=ROOT,
            env=environment(**paths),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
    return ours


def serve(number: int) -> None:
    """Fork a program for each that is asked for on a connection, until it is closed."""
    import openai.resources  # noqa: F401
    import pandas  # noqa: F401  (not wandb: the first of its processes that ends takes the folder of all with it)

    from metamem.cli.main import run_program

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        run_program("train", ["experiment=quick", f"outputs={folder}"])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=number) as connection:
        while True:
            head, descriptors, _, _ = socket.recv_fds(connection, 8, 2)
            if not head:
                return
            text, size = b"", int.from_bytes(head, "big")
            while len(text) < size:
                text += connection.recv(size - len(text))
            if os.fork() == 0:
                connection.close()
                _attend(*descriptors)
                return _be(json.loads(text))
            for descriptor in descriptors:
                os.close(descriptor)


def _attend(output: int, tells: int) -> None:
    """Fork the process of a program, tell which it is, and how it ended; return in that process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process = os.fork()
    if process == 0:
        os.close(tells)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        return
    os.close(output)
    os.write(tells, f"{process}\n".encode())
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        os.write(tells, f"{code}\n".encode())
    os._exit(0)


def _be(asked: dict[str, Any]) -> None:
    """Be a program: what it raises, `SystemExit` too, ends this process."""
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = [asked["script"], *asked["arguments"]]
    sys.path[0] = str(Path(asked["script"]).parent)
    sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
    runpy.run_path(asked["script"], run_name="__main__")


if __name__ == "__main__":
    serve(int(sys.argv[1]))
