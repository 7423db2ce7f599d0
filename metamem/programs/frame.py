"""The frame of a run, the same for every program: its directory, what watches it, its event loop, and its end.

In: the parts that a config names. Out: an `OpenRun` that is locked while the program works, and the content of
result.json: of a run that is finished already as it is stored, of any other as the program made it.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from metamem.config.identity import plain
from metamem.config.options import BaseConfig
from metamem.core.collector import collector_paced
from metamem.core.contracts import Dataset, Split, Tracker
from metamem.core.errors import Interrupted
from metamem.core.registry import build
from metamem.pipeline.parts import about
from metamem.pipeline.prepare import PreparedRun, prepare
from metamem.programs.judging import unread_verdicts, verdict_paths
from metamem.programs.overrides import job_overrides
from metamem.reporting.console.text import several
from metamem.reporting.write import write_report
from metamem.runs import leaving
from metamem.runs.directory import MOST_ASKED_AGAIN, Run
from metamem.tracking.console import Console
from metamem.tracking.progress import Progress
from metamem.tracking.trackers import Trackers

T = TypeVar("T")

# What does a job: a config and the frame of its run in, the content of result.json out.
Program = Callable[[Any, "Frame"], dict[str, Any]]


@dataclass(frozen=True)
class OpenRun:
    """A run while a program holds it: its parts, its directory, what watches it, and what is said of it (`about`)."""

    prepared: PreparedRun
    run: Run
    tracker: Tracker
    about: Mapping[str, Any]
    report: bool = True

    def announce(self, roles: Mapping[str, str], reads: Sequence[Mapping[str, str]] = (), **more: Any) -> None:
        """Tell the trackers what begins: the models in their `roles`, the runs and files that are read (`label`,
        `file`); then the oddities of the data set.
        """
        more |= {"reads": list(reads)} if reads else {}
        self.tracker.started({**self.about, "config": plain(self.run.shown), "roles": dict(roles), **more})
        for what, count in self.about["dataset"]["notices"].items():
            self.tracker.note(f"{self.prepared.config.dataset.name}: {what}: {count}")

    def finished(self) -> bool:
        """Tell whether nothing is left to do. A result that lacks calls, or verdicts that can be read, is taken back:
        they are asked for again.
        """
        if not self.run.finished:
            return False
        result, times = self.run.result(), self.run.asked_again
        lost, unread = result.get("lost", 0), result.get("unread", 0) if times < MOST_ASKED_AGAIN else 0
        if lost:
            self.tracker.note(f"{several(lost, 'call')} of the finished run not delivered: asking again")
        if unread:
            self.tracker.note(f"{several(unread, 'verdict')} of the finished run could not be read: asking again")
        if lost or unread:
            # Counted from what the result says of itself, so that a kill in between counts once.
            self.run.take_back(result.get("asked_again", 0) + bool(unread))
        return not (lost or unread)

    def already_finished(self) -> dict[str, Any]:
        """Report a run that needs nothing more and return its stored result."""
        self.tracker.note(f"already finished: {self.run.directory} (start over with run.force=true)")
        result = self.run.result()
        self.tracker.finished(result)
        if self.report and not (self.run.directory / "report.html").exists():
            # Killed between the two: the result is there, its report is not.
            write_report(self.run.directory)
        return result

    def _of_verdicts(self) -> dict[str, Any]:
        run = self.run
        return verdict_paths(run.directory) | unread_verdicts(run.directory, run.manifest["kind"], run.asked_again)

    def conclude(self, result: dict[str, Any]) -> dict[str, Any]:
        """Store the result, show it and write the report; return the result."""
        result = self.run.finish({**result, **self._of_verdicts()})
        self.tracker.finished(result)
        if self.report:
            write_report(self.run.directory)
        return result


class Frame:
    """How a program comes by its parts and its run. A dry run puts others in their place."""

    reports = True  # whether a finished run gets its report
    whole = False  # whether one training gathers the evidence of all the data, as the first of all folds does

    def prepare(self, config: BaseConfig, split: Split | None = None, dataset: Dataset | None = None) -> PreparedRun:
        """Make and check the parts that a config names; see `pipeline.prepare`."""
        return prepare(config, split, dataset)

    @contextmanager
    def open(
        self,
        kind: str,
        prepared: PreparedRun,
        *,
        identified: BaseConfig | None = None,
        shown: BaseConfig | None = None,
        contents: Mapping[str, Any] | None = None,
        overrides: Sequence[str] | None = None,
        console: Tracker | None = None,
        **more: Any,
    ) -> Iterator[OpenRun]:
        """Hold the run of these parts and what watches it, until the program leaves, whatever happens.

        `identified` and `contents` make the run's identity where they differ from the prepared ones, `overrides` its
        name, `shown` is the config that is kept beside the result; `console` takes the place of the run's own; `more`
        is said of the run beside the rest.
        """
        run = Run(
            kind,
            identified or prepared.config,
            prepared.contents if contents is None else contents,
            job_overrides() if overrides is None else overrides,
            shown or prepared.config,
        )
        try:
            watching = self.trackers(run, console)
            try:
                yield OpenRun(prepared, run, watching, about(prepared, run, kind, **more), self.reports)
            finally:
                watching.close()
        finally:
            run.close()

    def trackers(self, run: Run, console: Tracker | None = None) -> Tracker:
        """Return the console (a new one, where none is given), what keeps the run's progress beside it, and the chosen
        tracker as one.
        """
        watching: list[Tracker] = [console or Console(), Progress(run.directory)]
        if run.shown.tracker is not None:
            watching.append(build("tracker", run.shown.tracker, run_directory=run.directory))
        return Trackers(watching)

    def perform(
        self,
        kind: str,
        prepared: PreparedRun,
        work: Callable[[OpenRun], Coroutine[Any, Any, dict[str, Any]]],
        **how: Any,
    ) -> dict[str, Any]:
        """Do the work of a run that is begun from its start each time (`how`: see `open`), or report it as finished."""
        with self.open(kind, prepared, **how) as opened:
            if opened.finished():
                return opened.already_finished()
            opened.run.rewind({})
            return run_async(work(opened))


def run_async(job: Coroutine[Any, Any, T]) -> T:
    """Run a job to its end, also where an event loop runs already (a notebook): then in a thread of its own.

    SIGTERM and SIGUSR1 cancel it (`Interrupted`), and so does Ctrl-C (`KeyboardInterrupt`), after which a program ends
    within seconds (`runs.leaving`); of an exception group the first cause is raised.
    """
    stopped = interrupted = False

    async def main() -> T:
        nonlocal stopped
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()

        def stop() -> None:
            nonlocal stopped
            stopped = True
            task.cancel()

        for number in (signal.SIGTERM, signal.SIGUSR1):
            if "SUBMITIT_EXECUTOR" in os.environ and callable(signal.getsignal(number)):
                # Its launcher asks a scheduler to continue the job: by a signal of its own, until which it stays.
                continue
            try:
                loop.add_signal_handler(number, stop)
            except (NotImplementedError, RuntimeError, ValueError):
                # Not the main thread, or a system without these signals: the default handling stays.
                break

        def interrupt(*_: object) -> None:
            nonlocal interrupted
            if interrupted:
                raise KeyboardInterrupt
            interrupted = True
            # At once, also where the loop is busy: what it computes is not waited for either.
            leaving.soon()
            loop.call_soon_threadsafe(task.cancel)

        if threading.current_thread() is not threading.main_thread():
            return await job
        before = signal.signal(signal.SIGINT, interrupt)
        try:
            return await job
        finally:
            signal.signal(signal.SIGINT, before)

    try:
        with collector_paced():
            return _in_thread(main()) if _loop_runs() else asyncio.run(main())
    except asyncio.CancelledError:
        if stopped:
            raise Interrupted from None
        if interrupted:
            raise KeyboardInterrupt from None
        raise
    except BaseExceptionGroup as group:
        raise first_cause(group) from None


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _in_thread(job: Coroutine[Any, Any, T]) -> T:
    """Run a job on an event loop in a thread; an interrupt of this one (the stop button of a notebook) cancels it."""
    loops: list[asyncio.AbstractEventLoop] = []
    made: list[T] = []
    errors: list[BaseException] = []

    async def known() -> T:
        loops.append(asyncio.get_running_loop())
        return await job

    def work() -> None:
        try:
            made.append(asyncio.run(known()))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), name="metamem")
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        for loop in loops:
            _cancel_all(loop)
        thread.join()
        raise
    if errors:
        raise errors[0]
    return made[0]


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    def cancel() -> None:
        for task in asyncio.all_tasks(loop):
            task.cancel()

    if not loop.is_closed():
        loop.call_soon_threadsafe(cancel)


def first_cause(error: BaseException) -> BaseException:
    """The first exception inside nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
