"""One engine: a model in processes of this one, started, asked, built again after a death, and ended.

In: an `EngineSpec` and the GPUs it may use. Out: the engine's output for token ids. Every method may be called from any
event loop; the work is done on the engines' own. An engine outlives runs: `begin_run` tells it that another one starts.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from metamem.backbones.engine.environment import importing_vllm
from metamem.backbones.engine.errors import first_line, refusals
from metamem.backbones.engine.instance import Instance, load_tokenizer
from metamem.backbones.engine.loop import call, in_thread
from metamem.backbones.engine.renderer import Renderer
from metamem.backbones.engine.spec import EngineSpec
from metamem.core.errors import BackboneError, UserError

REBUILDS = 1  # in one run

_starting = asyncio.Lock()  # engines start one after another: side by side they take each other's ports
_requests = itertools.count(1)


async def load_renderer(spec: EngineSpec) -> Renderer:
    """Load what turns messages into a model's tokens, without its engine. Raises whatever a tokenizer's files cause."""

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
        self._instance: Instance | None = None
        self._launch: tuple[Instance, asyncio.Task[None]] | None = None
        self._died_again: EngineDied | None = None
        self._asleep = False
        self._last_finished = 0.0
        self._changes: dict[Path, int] = {}  # folders of low-rank changes, each with its number in vLLM

    @property
    def running(self) -> bool:
        """True while it can be asked without being started first."""
        return self._instance is not None and not self._asleep

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
        return self._instance.fingerprint if self._instance else {}

    @property
    def llm(self) -> Any:
        """vLLM's AsyncLLM, or None; to be touched on the engines' loop only (`loop.call`)."""
        return self._instance.llm if self._instance else None

    @property
    def log(self) -> Path | None:
        """What the processes of the present instance write."""
        return self._instance.log if self._instance else None

    def begin_run(self) -> None:
        """Begin a run: deaths in earlier ones do not count."""
        self.deaths, self._died_again = 0, None

    async def start(self) -> None:
        """Start it unless it runs. Raises `ConfigError` with the cause when it cannot."""
        await call(self._ensure_started())

    async def stop(self) -> None:
        """End its processes, also while they start; what waits for a reply fails. It can be started again."""
        await call(self._stop())

    async def suspend(self) -> None:
        """Give its memory to another engine until `start`.

        Asleep on GPUs where `enable_sleep_mode` was asked for (the weights wait in the host's memory), else ended. What
        is under way is finished first, or fails when it ends.
        """
        await call(self._suspend())

    async def generate(
        self, tokens: Sequence[int], parameters: Any, patience: float | None = None, changes: Path | None = None
    ) -> Any:
        """Return vLLM's `RequestOutput` for a prompt's tokens; starts the engine when it does not run.

        `changes` is a folder of low-rank changes (LoRA) of the weights, named by what it holds.

        When the engine dies meanwhile it is built again and asked again, once in a run. A cancelled call is given up by
        the engine, too. Raises `BackboneError` for what the engine refuses, and when it finished no request at all for
        `patience` seconds; `EngineDied` after a second death.
        """
        return await call(self._generate(list(tokens), parameters, patience, changes))

    # --- on the engines' loop

    async def _ensure_started(self) -> Instance:
        """Return the running instance; wakes it, starts it, or waits for the start that is under way."""
        if self._asleep and self._instance is not None:
            await self._instance.llm.wake_up()
            self._asleep = False
        while self._instance is None:
            if self._died_again is not None:
                raise self._died_again
            if self._launch is None:
                instance = Instance(self.spec, self.device_ids, self._renderer)
                self._launch = instance, asyncio.get_running_loop().create_task(self._launch_instance(instance))
            # Whoever waits may be cancelled; the others still want it.
            await asyncio.shield(self._launch[1])
        return self._instance

    async def _launch_instance(self, instance: Instance) -> None:
        try:
            async with _starting:
                await in_thread(instance.begin, "metamem-engine-start")
            self._renderer, self._context = instance.renderer, int(instance.llm.model_config.max_model_len)
            self._instance, self._last_finished = instance, asyncio.get_running_loop().time()
        finally:
            if self._launch is not None and self._launch[0] is instance:
                self._launch = None

    async def _stop(self) -> None:
        # Both fields are taken before the first await: whoever asks meanwhile starts an instance of its own.
        launch, self._launch = self._launch, None
        instance, self._instance, self._asleep = self._instance, None, False
        if launch is not None:
            # The thread that starts it notices, and lets go of the lock when it is through.
            launch[1].add_done_callback(lambda task: task.cancelled() or task.exception())
            await in_thread(launch[0].end, "metamem-engine-stop")
            launch[0].forget()
        if instance is not None:
            instance.stopped = True
            await in_thread(instance.end, "metamem-engine-stop")
            instance.forget()

    async def _suspend(self) -> None:
        instance = self._instance
        if instance is not None and instance.can_sleep:
            await instance.llm.sleep(level=1, mode="wait")
            self._asleep = True
        else:
            await self._stop()

    async def _generate(self, tokens: list[int], parameters: Any, patience: float | None, changes: Path | None) -> Any:
        from vllm.v1.engine.exceptions import EngineDeadError

        while True:
            instance = await self._ensure_started()
            try:
                asked = self._ask(instance.llm, tokens, parameters, changes)
                return await self._while_engine_works(asked, patience)
            except EngineDeadError:
                # All requests that were under way come by here at once.
                if instance.stopped:
                    raise BackboneError("the engine was stopped", passing=True) from None
                await self._count_death(instance)

    async def _while_engine_works(self, asking: Coroutine[Any, Any, Any], patience: float | None) -> Any:
        """Return what is asked, and give up when the engine finishes nothing at all for `patience` seconds.

        A request may wait in the engine's queue for hours behind others, so its own time says nothing.
        """
        if patience is None:
            return await asking
        loop = asyncio.get_running_loop()
        begun = loop.time()
        asked = loop.create_task(asking)
        try:
            while not asked.done():
                left = max(begun, self._last_finished) + patience - loop.time()
                if left <= 0:
                    told = f"the engine finished no request for {patience:g} s (backbone.timeout)"
                    raise BackboneError(told, passing=True)
                await asyncio.wait([asked], timeout=left)
            return asked.result()
        finally:
            asked.cancel()

    async def _ask(self, llm: Any, tokens: list[int], parameters: Any, changes: Path | None) -> Any:
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        prompt = {"type": "token", "prompt_token_ids": tokens}
        trained: dict[str, Any] = {}
        if changes is not None:
            from vllm.lora.request import LoRARequest

            number = self._changes.setdefault(changes, len(self._changes) + 1)
            trained["lora_request"] = LoRARequest(changes.name, number, str(changes))
        try:
            (output,) = [o async for o in llm.generate(prompt, parameters, f"metamem-{next(_requests)}", **trained)]
        except EngineDeadError:
            raise
        except refusals() as error:
            raise BackboneError(f"the engine refuses the request: {first_line(error)}") from error
        except EngineGenerateError as error:
            raise BackboneError(f"the engine failed on the request: {first_line(error.__cause__ or error)}") from error
        self._last_finished = asyncio.get_running_loop().time()
        return output

    async def _count_death(self, instance: Instance) -> None:
        """Take a dead instance down, once for all who notice; the engine is built again when next asked, or never."""
        if self._instance is instance:
            self._instance, self._asleep = None, False
            self.deaths += 1
            if self.deaths > REBUILDS:
                self._died_again = EngineDied(
                    f"the engine of {self.spec.model} died again, after it was built anew once in this run. What was "
                    "delivered is kept; the same command continues. "
                    f"The end of its log, {instance.log}:\n{instance.tail()}"
                )
            await in_thread(instance.end, "metamem-engine-stop")
        if self._died_again is not None:
            raise self._died_again
