"""Weights & Biases: a run's options, metrics, guidelines and figures, online or kept in its directory for `wandb sync`.

In: the calls of `contracts.Tracker`. Out: one W&B run whose id is the run's own, so that a run that was killed and
continued stays one (offline it leaves a folder each time it is started; `wandb sync` of all of them makes one run). W&B
keeps rows in memory for a while: when a run is continued, the steps that are not known to have arrived are told again.
After a hard kill a few may so be there twice, with the same values at the same place of the axis.

Lineage holds online and offline alike: an evaluation declares the meta-memory that it reads as an input, by content
(`wandb_lineage`), so the training need not have been online, or be there at all. Online W&B is told at once. Offline
its `use_artifact` refuses; the record that it would write for an artifact not yet committed is written all the same,
and `wandb sync` uploads the artifact, which the server knows again by its digest, and marks it as used by the run. What
was read also stands in the run's config under `reads`, by name and digest.

What W&B would gather by itself (the command line, the environment, the console, the git remote) is
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
from typing import Any
from urllib.parse import urlsplit

from metamem.core.errors import ConfigError, MissingExtraError, UnreachableError
from metamem.core.files import read_object, read_rows, write_json
from metamem.core.meta_memory import Change, MetaMemory
from metamem.core.registry import option, register
from metamem.runs.sweep import swept_here
from metamem.tracking import wandb_lineage, wandb_tables
from metamem.tracking.wandb_lineage import Made
from metamem.tracking.wandb_values import group_name, summary, tags_of, without_secrets

# Keys saved by `wandb login` stand under the cloud's own name, also where the service is addressed by another one.
_CLOUD = "api.wandb.ai"
# The last step that W&B has for certain, and whether it has the result: written when the run was closed in order.
_TOLD = Path("wandb") / "told.json"


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
        group: str | None = option(
            None, "W&B group (null: the experiment's name, of a sweep with the options that it varies)", result=False
        )
        tags: list[str] = option([], "W&B tags, beside a sweep's overrides", result=False)

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
        self._offline = True
        self._last = -1

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
                self._read(wandb, about)
        except wandb.errors.Error as error:
            reason = " ".join(str(error).split())
            if not isinstance(error, wandb.errors.CommError):
                raise ConfigError(f"tracker=wandb: {reason}") from None
            hint = "tracker.mode=offline keeps the run for `wandb sync`"
            raise UnreachableError(f"tracker=wandb: {reason} ({hint})") from None
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")
        if about.get("resumed_at") is not None:
            self._last = int(about["resumed_at"])
            self._catch_up(self._last)

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
        self._row |= {"step": step, **meta_memory.sizes(), "changes": len(changes)}
        self._flush()

    def note(self, text: str) -> None:
        """Nothing: notes are the console's."""

    def finished(self, result: Mapping[str, Any]) -> None:
        """See `contracts.Tracker`. Tables of guidelines, lineage and attempts, the meta-memory and the
        manifest as an artifact, the figures in the summary. Also of a run that was killed after its result was written.
        """
        begun = (self._directory / "wandb").is_dir()
        if self._run is None and begun and not self._told().get("complete"):
            config = read_object(self._directory / "config.json")
            self.started({**result, "config": config, "resumed_at": result.get("steps")})
        self._complete = True
        if self._run is None:
            return
        import wandb

        self._flush()
        with _kept_in(self._directory):
            for name, columns, rows in wandb_tables.tables(result, self._directory):
                self._run.log({name: wandb.Table(columns=list(columns), data=rows)})
            made = wandb_lineage.made_by(result, self._directory)
            if made is not None:
                self._run.log_artifact(_artifact(wandb, made))
        self._run.summary.update(summary(result))

    def close(self) -> None:
        """See `contracts.Tracker`. A run that did not finish is marked as failed, until it is continued."""
        run, self._run = self._run, None
        if run is not None:
            run.finish(exit_code=0 if self._complete else 1)
            write_json(self._directory / _TOLD, {"step": self._last, "complete": self._complete})

    def _begin(self, wandb: Any, about: Mapping[str, Any]) -> Any:
        """The W&B run, new or continued."""
        # Sets what the service process is started with; without it W&B writes lines into the console's display.
        setup = wandb.setup(settings=wandb.Settings(silent=True))
        mode = self._mode(setup.settings)
        self._offline = mode != "online"
        swept = swept_here()
        group = self._config.group or group_name(str(about.get("name") or ""), swept)
        tags = list(dict.fromkeys([*self._config.tags, *tags_of(swept)]))
        config = {**about.get("config", {}), **{k: about[k] for k in ("roles", "stamps") if about.get(k)}}
        if swept:
            config["swept"] = dict(o.partition("=")[::2] for o in swept)
        return wandb.init(
            project=self._config.project,
            entity=self._config.entity,
            mode=mode,
            group=group or None,
            job_type=str(about.get("kind") or "") or None,
            tags=tags or None,
            id=str(about["id"]),
            name=Path(str(about.get("directory") or self._directory)).name,
            resume="allow",
            reinit="create_new",  # the folds of a run log side by side
            dir=str(self._directory),
            config=without_secrets(config),
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

    def _read(self, wandb: Any, about: Mapping[str, Any]) -> None:
        """Declare the meta-memories that an evaluation reads as its inputs."""
        found: dict[str, Any] = {}
        for entry in about.get("reads") or ():
            made = wandb_lineage.read_from(Path(str(entry["file"])))
            if made is None:
                continue
            artifact = _artifact(wandb, made)
            if artifact.digest not in {used["digest"] for used in found.values()}:
                if not self._offline:
                    self._run.use_artifact(artifact)
                elif hasattr(self._run, "_log_artifact"):
                    self._run._log_artifact(artifact, is_user_created=True, use_after_commit=True)
            found[str(entry["label"])] = {"artifact": made.name, "digest": artifact.digest}
        if found:
            self._run.config.update({"reads": found}, allow_val_change=True)

    def _catch_up(self, step: int) -> None:
        """Log the steps that are whole and of which W&B may not know, because the run was killed."""
        # A continued online run comes with the summary that the server has.
        known = None if self._offline else self._run.summary.get("step")
        logged = max(int(self._told().get("step", -1)), known if isinstance(known, int) else -1)
        changes = {r["step"]: len(r["changes"]) * bool(r["accepted"]) for r in _lines(self._directory / "steps.jsonl")}
        for row in _lines(self._directory / "metrics.jsonl"):
            if logged < row["step"] <= step:
                self._row = {k: v for k, v in row.items() if v is not None}
                self._row["changes"] = changes.get(row["step"], 0)
                self._flush()

    def _told(self) -> dict[str, Any]:
        path = self._directory / _TOLD
        return read_object(path) if path.exists() else {}

    def _flush(self) -> None:
        row, self._row = self._row, {}
        if row and self._run is not None:
            self._run.log(row)
            self._last = int(row["step"])

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


def _artifact(wandb: Any, made: Made) -> Any:
    artifact = wandb.Artifact(made.name, type=made.kind, metadata=dict(made.about))
    for file in made.files:
        artifact.add_file(str(file))
    return artifact


def _lines(path: Path) -> list[dict[str, Any]]:
    return list(read_rows(path)) if path.exists() else []


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
