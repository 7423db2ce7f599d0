"""The connection to an OpenAI-compatible server: a JSON body in, parsed JSON out, each failure as one of four errors.

Whatever a server replies is data, and of bounded size.

`Transient` may pass on another try, `Refused` will not, `UnreachableError` means that the key is refused,
`BackboneError` that the body cannot be sent at all. The key goes into the client and nowhere else: texts of the
server's are cleaned of it, and the client's own exceptions, which hold the request and its headers, end here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import string
import time
import zlib
from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

from metamem.backbones.chat import message
from metamem.backbones.retries import AWAY, Transient, passes, retry_after
from metamem.core.errors import BackboneError, UnreachableError, printable

if TYPE_CHECKING:
    from openai import AsyncOpenAI


# Bytes of a reply: more than the longest samples of one call have. Of a refusal only the beginning is read.
LONGEST_REPLY = 16 * 2**20
LONGEST_REFUSAL = 64 * 2**10
# Fewer characters are no key that somebody guards, but a word (`none`, `x`) that stands in many a text.
_SHORTEST_KEY = 8
_SMALL = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class Refused(Exception):
    """The server will not answer this request as it stands (a 4xx that does not pass)."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Connection:
    """An `openai.AsyncOpenAI` over aiohttp, without its retries. Bound to the event loop in which it is made.

    `limit` is the number of sockets; `connect_timeout` is in seconds; the key is in the environment variable
    `key_name`. Raises `UnreachableError` for a key that no header can carry.
    """

    def __init__(self, address: str, key_name: str, *, limit: int, timeout: float, connect_timeout: float) -> None:
        import openai

        for name in ("httpx", "httpx2"):  # at the level INFO they write a line per call
            if (logger := logging.getLogger(name)).level == logging.NOTSET:
                logger.setLevel(logging.WARNING)
        self.loop = asyncio.get_running_loop()
        self.address = address
        self._key_name = key_name
        self._key = os.environ.get(key_name, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise UnreachableError(f"backbone.api_key_env: the key in {key_name} holds characters that no key has")
        limits = type(openai.DEFAULT_CONNECTION_LIMITS)(max_connections=limit)
        waits = openai.Timeout(timeout, connect=connect_timeout)
        self._http = openai.DefaultAioHttpClient(limits=limits, timeout=waits)
        _refuse_cookies(self._http)
        self._urls: dict[str, Any] = {}
        self._client: AsyncOpenAI = openai.AsyncOpenAI(
            base_url=address,
            api_key=self._key or "none",  # the client insists on one; local servers do not care
            max_retries=0,
            timeout=waits,
            http_client=self._http,
        )
        # The client's own headers, without those that describe this machine: each is encoded anew for every call.
        told = self._client.default_headers.items()
        self._headers = {k: v for k, v in told if isinstance(v, str) and not k.startswith("X-Stainless")}
        self._headers["Accept-Encoding"] = "identity"
        self._headers["Authorization"] = f"Bearer {self._client.api_key}"

    async def close(self) -> None:
        """Close every socket."""
        await self._client.close()
        await asyncio.sleep(0)  # lets the transports of closed sockets go before the loop does

    async def call(self, path: str, body: Mapping[str, Any] | None, seconds: float) -> Any:
        """Try once, a POST of `body` or a GET without one, in at most `seconds`; return the reply's parsed JSON."""
        import aiohttp
        import openai

        problem: Exception
        try:
            content = None if body is None else _JSON.encode(body).encode()
        except (ValueError, RecursionError) as error:
            odd = "characters that UTF-8 cannot encode" if isinstance(error, UnicodeError) else "what JSON cannot hold"
            raise BackboneError(f"the request holds {odd}") from None
        try:
            async with asyncio.timeout(seconds):
                return await self._send(path, content)
        except (TimeoutError, openai.APIConnectionError, aiohttp.ClientError, OSError) as error:
            problem = Transient(self.clean(_lost(error, seconds)), away=True)
        except _TooLongError:
            problem = BackboneError(f"the server's reply has more than {LONGEST_REPLY >> 20} MiB")
        except (ValueError, RecursionError):  # not JSON, or of numbers and depths that no reader takes
            problem = Transient("the server's reply is not JSON that can be read")
        raise problem  # outside the handlers, so that the client's exception does not travel along as its context

    async def _send(self, path: str, content: bytes | None) -> Any:
        """Send a POST of `content`, or a GET without, through the client's sockets; return the reply's parsed JSON.

        What the client does around a call (models of options, copies, merged headers) takes most of a call's processor
        time; the errors are those that it would raise.
        """
        import openai

        # An address is taken apart once.
        url = self._urls.get(path) or self.address + path
        request = self._http.build_request(
            "GET" if content is None else "POST", url, content=content, headers=self._headers
        )
        self._urls[path] = request.url
        try:
            response = await self._http.send(request, stream=True)
        except Exception as error:
            raise openai.APIConnectionError(request=request) from error
        try:
            refused = response.status_code >= 300
            longest = LONGEST_REFUSAL if refused else LONGEST_REPLY
            received = bytearray()
            try:
                # Unpacked here: a few kilobytes may be packed gigabytes, and one chunk of them fills the memory.
                async for chunk in response.aiter_raw():
                    received += chunk
                    if len(received) > longest:
                        break
            except (TimeoutError, asyncio.CancelledError):
                raise
            except Exception as error:
                if not refused:
                    raise openai.APIConnectionError(request=request) from error
        finally:
            await response.aclose()
        content_sent = _unpacked(bytes(received), response.headers.get("content-encoding", ""), longest)
        if refused:
            raise self._answered(response.status_code, response.headers, _refusal(content_sent[:longest]))
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
        return Refused(status, reason)


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


class _TooLongError(Exception):
    """A reply is longer than any that was asked for."""


def _refuse_cookies(http: Any) -> None:
    """Have a client send back nothing that a server sets: one odd cookie would keep every later request from leaving.

    Both layers keep cookies, the client and the session of aiohttp below it, which is made here.
    """
    import aiohttp

    http.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))
    session = http._transport.client = http._transport.get_client()
    session._cookie_jar = aiohttp.DummyCookieJar()


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


def _lost(error: BaseException, seconds: float) -> str:
    """Say why no reply came, from the innermost cause: the client's own words are only 'Connection error.'."""
    if isinstance(error, TimeoutError):
        return f"no reply within {seconds:g} s"
    while error.__cause__ is not None:
        error = error.__cause__
    return f"connection failed: {str(error) or type(error).__name__}"
