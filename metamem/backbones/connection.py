"""The connection to an OpenAI-compatible server: a JSON body in, parsed JSON out, each failure as one of four errors.

Whatever a server replies is data, and of bounded size.

`Transient` may pass on another try, `RefusedRequest` will not, `UnreachableError` means that the key is refused,
`BackboneError` that the body cannot be sent at all. The key goes into the client and nowhere else: texts of the
server's are cleaned of it, and the client's own exceptions, which hold the request and its headers, end here.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
import string
import time
import zlib
from collections.abc import Mapping
from typing import Any
from urllib.request import getproxies, proxy_bypass

from metamem.backbones.chat import message
from metamem.backbones.retries import AWAY, Transient, passes, retry_after
from metamem.core.errors import BackboneError, UnreachableError, printable

# Bytes of a reply: more than the longest samples of one call have. Of a refusal only the beginning is read.
LONGEST_REPLY = 16 * 2**20
LONGEST_REFUSAL = 64 * 2**10
# Fewer characters are no key that somebody guards, but a word (`none`, `x`) that stands in many a text.
_SHORTEST_KEY = 8
_SMALL = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
# Seconds that an idle socket is kept: vLLM's server closes it after five.
_KEPT = 5.0
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class RefusedRequest(Exception):
    """The server will not answer this request as it stands (a 4xx that does not pass)."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Connection:
    """The sockets to a server, by aiohttp. Bound to the event loop in which it is made.

    `limit` is the number of sockets; `connect_timeout` is in seconds; the key is in the environment variable
    `key_name`; proxies are those of the environment. Raises `UnreachableError` for a key that no header can carry.
    """

    def __init__(self, address: str, key_name: str, *, limit: int, connect_timeout: float) -> None:
        import aiohttp

        self.loop = asyncio.get_running_loop()
        self.address = address
        self._key_name = key_name
        self._key = os.environ.get(key_name, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise UnreachableError(f"backbone.api_key_env: the key in {key_name} holds characters that no key has")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=limit, keepalive_timeout=_KEPT, **_trust(address)),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout),
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                # Local servers do not care which.
                "Authorization": f"Bearer {self._key or 'none'}",
                "Content-Type": "application/json",
                "User-Agent": "metamem",
            },
            # One odd cookie that a server sets would keep every later request from leaving.
            cookie_jar=aiohttp.DummyCookieJar(),
            # Unpacked here: a few kilobytes may be packed gigabytes, and one chunk of them fills the memory.
            auto_decompress=False,
            **_proxy(address),
        )

    async def close(self) -> None:
        """Close every socket."""
        await self._session.close()
        await asyncio.sleep(0)  # lets the transports of closed sockets go before the loop does

    async def call(self, path: str, body: Mapping[str, Any] | None, seconds: float) -> Any:
        """Try once, a POST of `body` or a GET without one, in at most `seconds`; return the reply's parsed JSON."""
        problem: Exception
        try:
            content = None if body is None else _JSON.encode(body).encode()
        except (ValueError, RecursionError) as error:
            odd = "characters that UTF-8 cannot encode" if isinstance(error, UnicodeError) else "what JSON cannot hold"
            raise BackboneError(f"the request holds {odd}") from None
        try:
            async with asyncio.timeout(seconds):
                return await self._send(path, content)
        except TimeoutError:
            problem = Transient(f"no reply within {seconds:g} s", away=True)
        except _LostError as error:
            problem = Transient(self.clean(_told(error)), away=True)
        except _TooLongError:
            problem = BackboneError(f"the server's reply has more than {LONGEST_REPLY >> 20} MiB")
        except (ValueError, RecursionError):  # not JSON, or of numbers and depths that no reader takes
            problem = Transient("the server's reply is not JSON that can be read")
        raise problem  # outside the handlers, so that the client's exception does not travel along as its context

    async def _send(self, path: str, content: bytes | None) -> Any:
        """Send a POST of `content`, or a GET without; return the reply's parsed JSON."""
        received = bytearray()
        refused = False
        try:
            method = "GET" if content is None else "POST"
            async with self._session.request(method, self.address + path, data=content) as response:
                refused = response.status >= 300
                longest = LONGEST_REFUSAL if refused else LONGEST_REPLY
                async for chunk in response.content.iter_any():
                    received += chunk
                    if len(received) > longest:
                        break
        except Exception as error:  # of the sockets, TLS, HTTP: many types
            if not refused:
                raise _LostError from error
        content_sent = _unpacked(bytes(received), response.headers.get("Content-Encoding", ""), longest)
        if refused:
            raise self._answered(response.status, response.headers, _refusal(content_sent[:longest]))
        if len(content_sent) > longest:
            raise _TooLongError
        return json.loads(content_sent)

    def wrong_key(self, reason: str) -> UnreachableError:
        """Return the error for a server that refuses the key, or wants one where none is given."""
        state = "refuses the key in" if self._key else "wants a key, but none is in"
        told = f"{self.address} {state} the environment variable {self._key_name} ({reason})"
        return UnreachableError(f"backbone.api_key_env: {told}")

    def clean(self, text: str) -> str:
        """Return one line of at most 320 characters, without the key, which some services echo, whole or in parts."""
        if len(self._key) >= _SHORTEST_KEY:
            # Such as sk-pr***6789: what stands before and behind the stars is the key's.
            ends = re.escape(self._key[:3]), re.escape(self._key[-2:])
            text = re.sub(rf"{ends[0]}[\w-]*(\*{{2,}}|\.{{2,}}|…)[\w-]*({ends[1]})?", "***", text)
            text = _without(self._key, text)
        return " ".join(printable(text).split())[:320]

    def _answered(self, status: int, headers: Mapping[str, str], told: str) -> Exception:
        """Return what an HTTP status other than success means for the call."""
        reason = self.clean(f"status {status}: {told}" if told else f"status {status}")
        if status == 401:
            return self.wrong_key(reason)
        if passes(status):
            return Transient(reason, retry_after(headers, time.time()), away=status in AWAY)
        return RefusedRequest(status, reason)


def _without(key: str, text: str) -> str:
    """Return a text with every run of characters starred that the key has, too, in capitals or not."""
    own, said = key.translate(_SMALL), text.translate(_SMALL)
    kept: list[str] = []
    place = 0
    while place < len(text):
        end = place + _SHORTEST_KEY
        if end > len(text) or said[place:end] not in own:
            kept.append(text[place])
            place += 1
            continue
        while end < len(text) and said[place : end + 1] in own:
            end += 1
        kept.append("***")
        place = end
    return "".join(kept)


class _LostError(Exception):
    """No reply came, or not the whole of it; the cause says why."""


class _TooLongError(Exception):
    """A reply is longer than any that was asked for."""


def _proxy(address: str) -> dict[str, Any]:
    """Return the options of a session for the proxy that the environment names for an address; none where it names
    none.

    Found out once: aiohttp's own way asks a thread for every call.
    """
    import aiohttp
    from yarl import URL

    url = URL(address)
    known = getproxies()
    named = known.get(url.scheme) or known.get("all")
    if not named or _not_by_proxy(url.host or "", url.port or 0, known.get("no", "")):
        return {}
    proxy = URL(named if "://" in named else f"http://{named}")
    login = {"proxy_auth": aiohttp.BasicAuth(proxy.user, proxy.password or "")} if proxy.user else {}
    return {"proxy": proxy.with_user(None), **login}


def _not_by_proxy(host: str, port: int, exceptions: str) -> bool:
    """Whether an address is one of those that the environment wants to reach without a proxy: also `*`, `*.name` and
    `name:port` among others, of which the standard library reads some alone.
    """
    listed = [entry.strip() for entry in exceptions.split(",")]
    if "*" in listed or any(e.startswith("*.") and host.endswith(e[1:]) for e in listed):
        return True
    return bool(proxy_bypass(host) or proxy_bypass(f"{host}:{port}"))


def _trust(address: str) -> dict[str, Any]:
    """Return the options of a connector that checks certificates: by the system's authorities, and Mozilla's where the
    environment names none, since not every Python finds the system's. Nothing where nothing is encrypted.
    """
    if not address.startswith("https:"):
        return {}
    import certifi

    trusted = ssl.create_default_context()
    if not os.environ.get("SSL_CERT_FILE") and not os.environ.get("SSL_CERT_DIR"):
        trusted.load_verify_locations(certifi.where())
    return {"ssl": trusted}


def _unpacked(content: bytes, encoding: str, longest: int) -> bytes:
    """Return what was packed by gzip or deflate, of more than `longest` bytes only so many and one; anything else as it
    is, and of what is damaged nothing.
    """
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        return content
    unpacked = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # a gzip or a zlib header
    try:
        return unpacked.decompress(content, longest + 1)
    except zlib.error:
        return b""


def _refusal(content: bytes) -> str:
    """What a server says of a request that it does not answer."""
    try:
        told = message(json.loads(content))
    except (ValueError, RecursionError):
        told = ""
    return told or content.decode("utf-8", "replace")


def _told(error: BaseException) -> str:
    """Say why no reply came, from the innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"connection failed: {str(error) or type(error).__name__}"
