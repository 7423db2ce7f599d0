"""The lock names every package that the project asks for when it is installed for development."""

from __future__ import annotations

import re
import tomllib

from tests.programs import ROOT


def test_what_is_installed_for_development_is_locked_at_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    script = (ROOT / "scripts" / "install.sh").read_text(encoding="utf-8")
    (tools,) = re.findall(r"^tools=(\S+)$", script, re.MULTILINE)
    asked = project["dependencies"] + [
        named for extra in (*tools.split(","), "cpu") for named in project["optional-dependencies"][extra]
    ]
    names = {re.split(r"[\[<>=~ ;]", named)[0].lower().replace("_", "-") for named in asked}
    locked = dict(
        line.split("==") for line in (ROOT / "scripts" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    )
    assert names - locked.keys() == set()
