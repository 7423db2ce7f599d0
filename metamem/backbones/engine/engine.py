"""One engine: a model in processes of this one, started, asked, built again after a death, and ended.

In: an `EngineSpec` and the GPUs it may use. Out: the engine's output for token ids. Every method may be called from any
event loop; the work is done on the engines' own. An engine outlives runs: `begin_run` tells it that another one starts.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metamem.backbones.engine.life import Life, load_tokenizer
from metamem.backbones.engine.loop import call, in_thread
from metamem.backbones.engine.requests import Renderer, first_line, refusals
from metamem.backbones.engine.spec import EngineSpec, importing_vllm
from metamem.core.errors import BackboneError, UserError

REBUILDS = 1  # in one run

_starting = asyncio.Lock()  # engines start one after another: side by side they take each other's ports
_requests = itertools.count(1)


async def load_renderer(spec: EngineSpec) -> Renderer:
    """What turns messages into a model's tokens, without its engine. Raises whatever a tokenizer's files may cause."""

    async def loaded() -> Renderer:
        async with _starting:
            return await in_thread(lambda: _quietly(spec), "metamem-tokenizer")

    return await call(loaded())


def _quietly(spec: EngineSpec) -> Renderer:
    with importing_vllm():
        return Renderer(load_tokenizer(spec))


class EngineDied(UserError):
    """An engine died again in the same run; the message ends with its log."""


class Engine:
    """A model that can be asked while it runs. `deaths` counts those in the present run."""

    def __init__(self, spec: EngineSpec, device_ids: Sequence[int] | None = None) -> None:
        self.spec = spec
        self.device_ids = device_ids
        self.deaths = 0
        self._context: int | None = None
        self._renderer: Renderer | None = None
        self._life: Life | None = None
        self._launch: tuple[Life, asyncio.Task[None]] | None = None
        self._fatal: EngineDied | None = None
        self._asleep = False
        self._progress = 0.0

    @property
    def running(self) -> bool:
        """True while it can be asked without being started first."""
        return self._life is not None and not self._asleep

    @property
    def context(self) -> int:
        """How many tokens prompt and reply may have together; known from the first start on, also while stopped."""
        assert self._context is not None, "start the engine first"
        return self._context

    @property
    def renderer(self) -> Renderer:
        """What turns messages into the model's tokens; there from the first start on, also while stopped."""
        assert self._renderer is not None, "start the engine first"
        return self._renderer

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """vLLM's version, the kind of device and the number of parts: what may move a reply's last digits."""
        return self._life.fingerprint if self._life else {}

    @property
    def llm(self) -> Any:
        """vLLM's AsyncLLM, or None; to be touched on the engines' loop only (`loop.call`)."""
        return self._life.llm if self._life else None

    @property
    def log(self) -> Path | None:
        """What the processes of the present life write."""
        return self._life.log if self._life else None

    def begin_run(self) -> None:
        """A run begins: deaths in earlier ones do not count."""
        self.deaths, self._fatal = 0, None

    async def start(self) -> None:
        """Start it unless it runs. Raises `ConfigError` with the cause when it cannot."""
        await call(self._started())

    async def stop(self) -> None:
        """End its processes, also while they start; what waits for a reply fails. It can be started again."""
        await call(self._stopped())

    async def rest(self) -> None:
        """Give its memory to another engine until `start`: asleep on GPUs where `enable_sleep_mode` was asked for (the
        weights wait in the host's memory), else ended. What is under way is finished first, or fails when it ends.
        """
        await call(self._rested())

    async def generate(self, tokens: Sequence[int], parameters: Any, patience: float | None = None) -> Any:
        """vLLM's `RequestOutput` for a prompt's tokens; starts the engine when it does not run.

        When the engine dies meanwhile it is built again and asked again, once in a run. A cancelled call is given up by
        the engine, too. Raises `BackboneError` for what the engine refuses, and when it finished no request at all for
        `patience` seconds; `EngineDied` after a second death.
        """
        return await call(self._generated(list(tokens), parameters, patience))

    # --- on the engines' loop

    async def _started(self) -> Life:
        if self._asleep and self._life is not None:
            await self._life.llm.wake_up()
            self._asleep = False
        while self._life is None:
            if self._fatal is not None:
                raise self._fatal
            if self._launch is None:
                life = Life(self.spec, self.device_ids, self._renderer)
                self._launch = life, asyncio.get_running_loop().create_task(self._launched(life))
            # Whoever waits may be cancelled; the others still want it.
            await asyncio.shield(self._launch[1])
        return self._life

    async def _launched(self, life: Life) -> None:
        try:
            async with _starting:
                await in_thread(life.begin, "metamem-engine-start")
            self._renderer, self._context = life.renderer, int(life.llm.model_config.max_model_len)
            self._life, self._progress = life, asyncio.get_running_loop().time()
        finally:
            if self._launch is not None and self._launch[0] is life:
                self._launch = None

    async def _stopped(self) -> None:
        launch, self._launch = self._launch, None
        life, self._life, self._asleep = self._life, None, False
        if launch is not None:
            # The thread that starts it notices, and lets go of the lock when it is through.
            launch[1].add_done_callback(lambda task: task.cancelled() or task.exception())
            await in_thread(launch[0].end, "metamem-engine-stop")
            launch[0].forget()
        if life is not None:
            life.stopped = True
            await in_thread(life.end, "metamem-engine-stop")
            life.forget()

    async def _rested(self) -> None:
        life = self._life
        if life is not None and life.can_sleep:
            await life.llm.sleep(level=1, mode="wait")
            self._asleep = True
        else:
            await self._stopped()

    async def _generated(self, tokens: list[int], parameters: Any, patience: float | None) -> Any:
        from vllm.v1.engine.exceptions import EngineDeadError

        while True:
            life = await self._started()
            try:
                return await self._watched(life.llm, tokens, parameters, patience)
            except EngineDeadError:
                if life.stopped:
                    raise BackboneError("the engine was stopped") from None
                await self._bury(life)

    async def _watched(self, llm: Any, tokens: list[int], parameters: Any, patience: float | None) -> Any:
        """Ask, and give up when the engine stands still: to wait in its queue is no fault of a request's."""
        if patience is None:
            return await self._asked(llm, tokens, parameters)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        asked = loop.create_task(self._asked(llm, tokens, parameters))
        try:
            while not asked.done():
                left = max(begun, self._progress) + patience - loop.time()
                if left <= 0:
                    raise BackboneError(f"the engine finished no request for {patience:g} s (backbone.timeout)")
                await asyncio.wait([asked], timeout=left)
            return asked.result()
        finally:
            asked.cancel()

    async def _asked(self, llm: Any, tokens: list[int], parameters: Any) -> Any:
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        prompt = {"type": "token", "prompt_token_ids": tokens}
        try:
            (output,) = [o async for o in llm.generate(prompt, parameters, f"metamem-{next(_requests)}")]
        except EngineDeadError:
            raise
        except refusals() as error:
            raise BackboneError(f"the engine refuses the request: {first_line(error)}") from error
        except EngineGenerateError as error:
            raise BackboneError(f"the engine failed on the request: {first_line(error.__cause__ or error)}") from error
        self._progress = asyncio.get_running_loop().time()
        return output

    async def _bury(self, life: Life) -> None:
        """After a death: the first to notice takes the engine down; it is built again when next asked, or never."""
        if self._life is life:
            self._life, self._asleep = None, False
            self.deaths += 1
            if self.deaths > REBUILDS:
                self._fatal = EngineDied(
                    f"the engine of {self.spec.model} died again, after it was built anew once in this run. What was "
                    f"delivered is kept; the same command continues. The end of its log, {life.log}:\n{life.tail()}"
                )
            await in_thread(life.end, "metamem-engine-stop")
        if self._fatal is not None:
            raise self._fatal
