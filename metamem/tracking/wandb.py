"""Weights & Biases: a run's options, metrics, guidelines and figures, online or kept in its directory for `wandb sync`.

In: the calls of `contracts.Tracker`. Out: one W&B run whose id is the run's own, so that a run that was killed and
continued stays one. What W&B would gather by itself (the command line, the environment, the console, the git remote) is
left out: none of it is needed, and keys may stand in it.
"""

from __future__ import annotations

import netrc
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from metamem.errors import ConfigError, MissingExtraError, UnreachableError
from metamem.registry import option, register

if TYPE_CHECKING:
    from metamem.meta_memory import Change, MetaMemory

# Keys saved by `wandb login` stand under the cloud's own name, also where the service is addressed by another one.
_CLOUD = "api.wandb.ai"


class Mode(StrEnum):
    """`auto`: online when a key is configured, else offline."""

    auto = "auto"
    online = "online"
    offline = "offline"
    disabled = "disabled"


@register("tracker", "wandb")
class WandbTracker:
    """Weights & Biases: options, metrics by step, guidelines and figures (online, or offline for `wandb sync`)."""

    @dataclass
    class Config:
        """Where the W&B run is kept."""

        project: str = option("metamem", "W&B project", result=False)
        entity: str | None = option(None, "W&B user or team (null: the account's default)", result=False)
        mode: Mode = option(
            Mode.auto, "auto (online when a key is configured, else offline), online, offline or disabled", result=False
        )
        group: str | None = option(None, "W&B group (null: the experiment's name)", result=False)
        tags: list[str] = option([], "W&B tags", result=False)

        def __post_init__(self) -> None:
            if not self.project.strip():
                raise ConfigError("tracker.project: a name is needed")
            # Overrides give enums by name or as strings, depending on who composes.
            self.mode = Mode(self.mode)

    def __init__(self, config: Config, *, run_directory: Path) -> None:
        """Raises `MissingExtraError` when the package is not installed."""
        from importlib.util import find_spec

        if config.mode is not Mode.disabled and find_spec("wandb") is None:
            raise MissingExtraError("tracker=wandb needs the package wandb, which is not installed: pip install wandb")
        self._config = config
        self._directory = run_directory
        self._run: Any = None
        self._row: dict[str, Any] = {}
        self._complete = False

    def started(self, about: Mapping[str, Any]) -> None:
        """See `contracts.Tracker`.

        Raises `UnreachableError` when W&B cannot be reached or refuses the key, `ConfigError` when it is to be online
        without one, or does not take an option.
        """
        if self._config.mode is Mode.disabled:
            return
        # Neither error reports nor usage figures go out by themselves; must be set before the package is imported.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        try:
            with _kept_in(self._directory):
                self._run = self._begin(wandb, about)
        except wandb.errors.Error as error:
            reason = " ".join(str(error).split())
            if not isinstance(error, wandb.errors.CommError):
                raise ConfigError(f"tracker=wandb: {reason}") from None
            hint = "tracker.mode=offline keeps the run for `wandb sync`"
            raise UnreachableError(f"tracker=wandb: {reason} ({hint})") from None
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def stage(self, name: str, total: int, unit: str) -> None:
        """Nothing: W&B is told of steps."""

    def advance(self, what: str, count: int = 1) -> None:
        """Nothing: W&B is told of steps."""

    def measured(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """See `contracts.Tracker`."""
        self._flush()
        self._row = {**{k: v for k, v in metrics.items() if v is not None}, "step": step}

    def changed(self, step: int, meta_memory: MetaMemory, changes: Sequence[Change]) -> None:
        """See `contracts.Tracker`."""
        if self._row.get("step") != step:
            self._flush()
        self._row |= {"step": step, "guidelines": len(meta_memory), "changes": len(changes)}
        self._flush()

    def note(self, text: str) -> None:
        """Nothing: notes are the console's."""

    def finished(self, result: Mapping[str, Any]) -> None:
        """See `contracts.Tracker`. Tables of guidelines, lineage and attempts, the meta-memory and the
        manifest as an artifact, the figures in the summary.
        """
        self._complete = True
        if self._run is None:
            return
        import wandb

        self._flush()
        from metamem.tracking import wandb_tables

        with _kept_in(self._directory):
            for name, columns, rows in wandb_tables.tables(result, self._directory):
                self._run.log({name: wandb.Table(columns=list(columns), data=rows)})
            files = wandb_tables.artifact_files(result, self._directory)
            if files:
                about = {k: result.get(k) for k in ("name", "seed", "best_step", "score", "stamps")}
                about["read from"] = wandb_tables.sources(result)
                kind = "meta-memory" if result.get("meta_memory") else "evaluation"
                artifact = wandb.Artifact(f"{kind}-{self._run.id}", type=kind, metadata=about)
                for file in files:
                    artifact.add_file(str(file))
                self._run.log_artifact(artifact)
        self._run.summary.update(summary(result))

    def close(self) -> None:
        """See `contracts.Tracker`. A run that did not finish is marked as failed, until it is continued."""
        run, self._run = self._run, None
        if run is not None:
            run.finish(exit_code=0 if self._complete else 1)

    def _begin(self, wandb: Any, about: Mapping[str, Any]) -> Any:
        """The W&B run, new or continued."""
        # Sets what the service process is started with; without it W&B writes lines into the console's display.
        setup = wandb.setup(settings=wandb.Settings(silent=True))
        mode = self._mode(setup.settings)
        return wandb.init(
            project=self._config.project,
            entity=self._config.entity,
            mode=mode,
            group=self._config.group or str(about.get("name") or "") or None,
            job_type=str(about.get("kind") or "") or None,
            tags=list(self._config.tags) or None,
            id=str(about["id"]),
            name=Path(str(about.get("directory") or self._directory)).name,
            resume="allow",
            reinit="create_new",  # the folds of a run log side by side
            dir=str(self._directory),
            config={**about.get("config", {}), **{k: about[k] for k in ("roles", "stamps") if about.get(k)}},
            allow_val_change=True,
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                save_code=False,
                x_disable_meta=True,
                x_save_requirements=False,
            ),
        )

    def _flush(self) -> None:
        row, self._row = self._row, {}
        if row and self._run is not None:
            self._run.log(row)

    def _mode(self, settings: Any) -> Any:
        """What `auto` stands for: WANDB_MODE where it is set, else online when a key is configured."""
        mode, wished = self._config.mode, os.environ.get("WANDB_MODE")
        if mode is Mode.auto and wished:
            mode = Mode(wished) if wished in ("online", "disabled") else Mode.offline
        key = key_configured(settings)
        if mode is Mode.online and not key:
            raise ConfigError(
                "tracker.mode=online needs a W&B key: log in with `wandb login`, or set WANDB_API_KEY; "
                "tracker.mode=offline keeps the run for `wandb sync`"
            )
        if mode is Mode.auto:
            mode = Mode.online if key else Mode.offline
        return mode.value


@contextmanager
def _kept_in(run_directory: Path) -> Iterator[None]:
    """Have W&B stage files and keep its logs with the run, not in the home directory, unless the user named places."""
    places = {"WANDB_DATA_DIR": "data", "WANDB_CACHE_DIR": "cache"}
    added = [name for name in places if name not in os.environ]
    try:
        for name in added:
            os.environ[name] = str((run_directory / "wandb" / places[name]).absolute())
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def key_configured(settings: Any) -> bool:
    """Whether W&B would find a key: in the environment, its settings files or netrc. Asks no server."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE") or settings.api_key:
        return True
    paths = [Path(os.environ["NETRC"])] if os.environ.get("NETRC") else [Path("~/.netrc"), Path("~/_netrc")]
    hosts = {urlsplit(settings.base_url).netloc, *([] if os.environ.get("WANDB_BASE_URL") else [_CLOUD])}
    for path in paths:
        try:
            known = netrc.netrc(path.expanduser())
        except (OSError, netrc.NetrcParseError):
            continue
        if any(host in known.hosts for host in hosts):
            return True
    return False


def summary(result: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a result for W&B's summary: the score, and the figures as `test/llm_judge/best/...`."""
    values = {k: result[k] for k in ("score", "best_step", "steps") if isinstance(result.get(k), (int, float))}
    part = str(result.get("part") or "test")
    for evaluator, systems in (result.get("figures") or {}).items():
        for label, figures in systems.items():
            # `best (step 7)` → `best`: runs are compared by the same name.
            name = str(label).split(" (step ")[0]
            values |= {f"{part}/{evaluator}/{name}/{path}": v for path, v in _numbers(figures)}
    for cell in result.get("perplexity") or ():
        place = f"{part}/perplexity/{cell['what']}/{str(cell['system']).split(' (step ')[0]}"
        found = {given: (cell.get(given) or {}).get("perplexity") for given in ("without", "with")}
        values |= {f"{place}/{given} E": v for given, v in found.items() if v is not None}
    values |= {f"retrieval/{path}": v for path, v in _numbers(result.get("retrieval") or {})}
    values |= {f"calls/{path}": v for path, v in _numbers(result.get("calls") or {})}
    return values


def _numbers(tree: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numeric leaves of nested mappings, with their path."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}/{path}", v) for path, v in _numbers(value))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield str(key), value
