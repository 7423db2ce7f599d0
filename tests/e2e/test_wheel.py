"""The wheel is whole: in another folder, without the checkout and without a network, it trains on the sample data."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests import programs


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from the checkout."""
    place = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place), str(programs.ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (found,) = place.glob("*.whl")
    return found


@pytest.mark.slow
def test_the_wheel_holds_configs_prompts_rubrics_and_sample_data_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    package = programs.ROOT / "metamem"
    data = [p for p in package.rglob("*") if p.suffix in (".jinja", ".json") or p.name == "py.typed"]
    assert {f"metamem/{p.relative_to(package)}" for p in data} <= names
    configs = (programs.ROOT / "conf").rglob("*.yaml")
    assert {f"metamem/conf/{p.relative_to(programs.ROOT / 'conf')}" for p in configs} <= names
    assert not [n for n in names if n.startswith(("tests/", "experiments/"))]


@pytest.mark.slow
def test_the_installed_wheel_trains_and_evaluates_in_another_folder_without_network(
    wheel: Path, tmp_path: Path
) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    site = next((home / "lib").glob("python*")) / "site-packages"
    # The dependencies are this environment's; its editable metamem is not seen, since a path in a .pth brings no other
    # .pth along.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(home / "bin" / "python"),
        "install",
        "-q",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    alone = ["unshare", "-rn"] if shutil.which("unshare") else []
    if alone and subprocess.run([*alone, "true"], capture_output=True).returncode:
        alone = []
    folder = tmp_path / "elsewhere"
    folder.mkdir()

    def call(program: str, *arguments: str) -> str:
        command = [*alone, str(home / "bin" / program), *arguments]
        done = subprocess.run(command, cwd=folder, env=programs.environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "kfold" in call("metamem-train", "--help")
    printed = call("metamem-train", "experiment=quick")
    assert "metamem-eval meta_memory=" in printed
    call("metamem-eval", "meta_memory=outputs/quick/latest")
    assert (folder / "outputs" / "quick" / "latest" / "result.json").exists()
    where = call("python", "-c", "import metamem; print(metamem.__file__)").strip()
    assert os.path.commonpath([where, home]) == str(home)
