from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from metamem.core.errors import ConfigError
from metamem.core.registry import build, load_studies
from metamem.tracking.wandb import Mode, key_configured
from metamem.tracking.wandb_values import group_name, summary, without_secrets
from tests.wandb_files import artifacts, history, items, records

KEY = "0123456789abcdef0123456789abcdef01234567"
SECRET = "a-password-on-the-command-line"

# A run as train.py tells it.
PROGRAM = """
import json
import sys
from pathlib import Path
from metamem.core.meta_memory import Action, MetaMemory, Operation, apply
from metamem.core.registry import build
from metamem.tracking import trackers

place = Path(sys.argv[1])
config = {"name": "study", "seed": 7, "backbone": {"name": "openai", "api_key_env": "SOME_VARIABLE"}}
about = {"id": "3f2a9c01bb", "name": "study", "kind": "train", "directory": str(place), "config": config}
about |= {"stamps": ["self-judged"], "roles": {"policy": "some-model"}, "steps": 2, "resumed_at": None}
tracker = build("tracker", {"name": "wandb", "mode": "offline", "tags": ["one"]}, run_directory=place)
tracker.started(about)
tracker.stage("step 1/2", 5, "question")
tracker.advance("question")
memory, changes, _ = apply(MetaMemory(), [Operation(Action.add, text="Prefer the later date.", support=("q1",))], 1)
tracker.measured(0, {"step": 0, "validation": 0.5, "right": None})
tracker.changed(0, MetaMemory(), ())
tracker.measured(1, {"step": 1, "validation": 0.75, "right": 0.625, "guidelines": 1})
tracker.changed(1, memory, changes)
tracker.note("a note")
guideline = {"id": "G1", "text": "Prefer the later date.", "born": 1, "changed": 1, "support": ["q1"]}
overall = {"accuracy": 0.7, "count": 10, "invalid": 0, "valid_accuracy": None}
figures = {"llm_judge": {"best (step 1)": {"overall": overall}}}
history = {"step": 1, "action": "add", "id": "G1", "before": None, "after": "Prefer", "support": ["q1"]}
(place / "checkpoints").mkdir()
(place / "checkpoints" / "step_0001.json").write_text("{}")
(place / "manifest.json").write_text('{"id": "3f2a9c01bb"}')
(place / "steps.jsonl").write_text(json.dumps({"step": 1, "accepted": True, "changes": [history]}) + chr(10))
result = {"score": 0.75, "best_step": 1, "part": "test", "figures": figures}
tracker.finished({**result, "guidelines": [guideline]})
tracker.close()
tracker.close()
"""


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """What an offline run left behind: its directory, its records, what it printed, who was called."""
    place, home = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("home")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "NETRC", "XDG"))}
        environment |= {
            "HOME": str(home),
            "WANDB_API_KEY": KEY,
            "WANDB_BASE_URL": f"http://127.0.0.1:{server.getsockname()[1]}",
        }
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(place), f"backbone.base_url=http://u:{SECRET}@h"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        try:
            server.accept()
            called = True
        except BlockingIOError:
            called = False
    assert done.returncode == 0, done.stderr
    (log,) = place.glob("wandb/offline-run-*-3f2a9c01bb/run-3f2a9c01bb.wandb")
    return SimpleNamespace(
        place=place, home=home, printed=done.stdout + done.stderr, records=list(records(log)), called=called
    )


@pytest.mark.slow
def test_an_offline_run_keeps_id_config_and_tags(offline: SimpleNamespace) -> None:
    (run,) = [r.run for r in offline.records if r.WhichOneof("record_type") == "run"]
    assert (run.run_id, run.project, run.run_group, run.job_type) == ("3f2a9c01bb", "metamem", "study", "train")
    assert run.display_name == offline.place.name
    assert list(run.tags) == ["one"]
    config = items(run.config.update)
    assert config["seed"] == 7
    assert config["backbone"] == {"name": "openai", "api_key_env": "SOME_VARIABLE"}
    assert config["stamps"] == ["self-judged"]
    assert config["roles"] == {"policy": "some-model"}


@pytest.mark.slow
def test_an_offline_run_keeps_the_metrics_by_step(offline: SimpleNamespace) -> None:
    kept = history(offline.records)
    assert kept[0] == {"step": 0, "validation": 0.5, "guidelines": 0, "changes": 0}
    assert kept[1] == {"step": 1, "validation": 0.75, "right": 0.625, "guidelines": 1, "changes": 1}
    axes = {
        r.metric.glob_name: r.metric.step_metric for r in offline.records if r.WhichOneof("record_type") == "metric"
    }
    assert axes["*"] == "step"


@pytest.mark.slow
def test_an_offline_run_keeps_lineage_and_the_meta_memory_as_an_artifact(offline: SimpleNamespace) -> None:
    (table,) = offline.place.glob("wandb/offline-run-*/files/media/table/lineage*.json")
    assert json.loads(table.read_text())["data"] == [[1, "add", "G1", None, "Prefer", "q1"]]
    (kept,) = [a for a in artifacts(offline.records) if a.type == "meta-memory"]
    assert kept.name == "meta-memory-3f2a9c01bb" and not kept.use_after_commit
    assert {e.path for e in kept.manifest.contents} == {"manifest.json", "step_0001.json"}


@pytest.mark.slow
def test_an_offline_run_keeps_the_figures_and_the_guidelines(offline: SimpleNamespace) -> None:
    kept: dict[str, Any] = {}
    for record in offline.records:
        if record.WhichOneof("record_type") == "summary":
            kept |= items(record.summary.update)
    assert kept["score"] == 0.75
    assert kept["best_step"] == 1
    assert kept["test/llm_judge/best/overall/accuracy"] == 0.7
    (table,) = offline.place.glob("wandb/offline-run-*/files/media/table/learned_guidelines*.json")
    assert json.loads(table.read_text())["data"] == [["G1", "Prefer the later date.", 1, 1, "q1"]]


@pytest.mark.slow
def test_an_offline_run_holds_neither_the_key_nor_the_command_line(offline: SimpleNamespace) -> None:
    files = [p for p in offline.place.rglob("*") if p.is_file()]
    assert files
    for path in files:
        content = path.read_bytes()
        assert KEY.encode() not in content, path
        assert SECRET.encode() not in content, path


@pytest.mark.slow
def test_an_offline_run_calls_nobody_prints_nothing_and_leaves_the_home_alone(offline: SimpleNamespace) -> None:
    assert not offline.called
    assert offline.printed == ""
    assert not any(p.is_file() for p in offline.home.rglob("*"))


def test_a_disabled_tracker_takes_every_call_and_writes_nothing(tmp_path: Path) -> None:
    tracker = build("tracker", {"name": "wandb", "mode": "disabled"}, run_directory=tmp_path)
    tracker.started({"id": "x"})
    tracker.measured(1, {"right": 0.5})
    tracker.finished({"score": 1.0, "guidelines": []})
    tracker.close()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment without W&B keys; gives the path of a netrc file that is not there yet."""
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return tmp_path / "netrc"


def settings(base_url: str = "https://api.wandb.ai", api_key: str | None = None) -> SimpleNamespace:
    return SimpleNamespace(base_url=base_url, api_key=api_key)


def resolved(mode: str, found: SimpleNamespace) -> str:
    tracker = build("tracker", {"name": "wandb", "mode": mode}, run_directory=Path())
    return str(tracker._mode(found))


def test_auto_is_offline_without_a_key_and_online_with_one(no_keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolved("auto", settings()) == "offline"
    assert resolved("auto", settings(api_key=KEY)) == "online"
    no_keys.write_text(f"machine api.wandb.ai login user password {KEY}\n")
    assert resolved("auto", settings()) == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert resolved("auto", settings()) == "offline"
    assert resolved("online", settings()) == "online"


def test_a_key_of_another_server_is_no_key(no_keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_keys.write_text(f"machine elsewhere.example login user password {KEY}\n")
    assert not key_configured(settings())
    assert key_configured(settings("https://elsewhere.example"))
    no_keys.write_text(f"machine api.wandb.ai login user password {KEY}\n")
    monkeypatch.setenv("WANDB_BASE_URL", "https://elsewhere.example")
    assert not key_configured(settings("https://elsewhere.example"))


@pytest.mark.parametrize("variable", ["WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"])
def test_a_key_in_the_environment_is_found(no_keys: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "x")
    assert key_configured(settings())


def test_an_unreadable_netrc_is_no_key(no_keys: Path) -> None:
    no_keys.write_text("this is { not netrc")
    assert not key_configured(settings())


def test_online_without_a_key_says_how_to_get_one(no_keys: Path) -> None:
    with pytest.raises(ConfigError, match=r"tracker\.mode=online.*WANDB_API_KEY"):
        resolved("online", settings())


def test_a_mode_is_taken_as_a_string_or_as_the_enum() -> None:
    for mode in ("offline", Mode.offline):
        assert build("tracker", {"name": "wandb", "mode": mode}, run_directory=Path())._config.mode is Mode.offline


def test_the_summary_names_systems_alike_in_every_run_and_holds_numbers_only() -> None:
    figures = {"exact_match": {"best (step 7)": {"overall": {"accuracy": 0.5, "note": "text", "valid": None}}}}
    assert summary({"score": None, "part": "test", "figures": figures, "calls": {"policy": {"calls": 3}}}) == {
        "test/exact_match/best/overall/accuracy": 0.5,
        "calls/policy/calls": 3,
    }


def test_a_sweep_names_the_group_and_a_study_names_itself() -> None:
    load_studies()
    assert group_name("train", ()) == "train"
    assert group_name("train", ("seed=1", "optimizer.attempts=2")) == "train: seed, optimizer.attempts"
    assert group_name("main_table", ("memory=turns",)) == "main_table"
    assert len(group_name("train", [f"option{i}=1" for i in range(50)])) <= 128


def test_options_go_out_without_what_is_secret() -> None:
    given = {
        "backbone": {"api_key_env": "A_VARIABLE", "base_url": "http://u:p@host/v1", "max_tokens": 5},
        "other": [{"hf_token": "x", "apiKey": "x", "PASSWORD": "x", "tokenizer": "words", "token": ""}],
    }
    assert without_secrets(given) == {
        "backbone": {"api_key_env": "A_VARIABLE", "base_url": "http://host/v1", "max_tokens": 5},
        "other": [
            {"hf_token": "left out", "apiKey": "left out", "PASSWORD": "left out", "tokenizer": "words", "token": ""}
        ],
    }
