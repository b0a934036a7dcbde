"""The package as a user gets it: what is in the wheel, what it runs, how light its import is."""

import ast
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import critic_data.cli
import critic_jax
import critic_jax.cli

ROOT = Path(__file__).parents[1]
# Source folder -> package in the wheel.
FOLDERS = {"critic_jax": "critic_jax", "data_tools": "critic_data", "configs": "critic_configs"}
# The only places that may import what an extra of their own brings.
SERVING, VIDEO = "critic_jax/serving", "critic_jax/evaluation/benchmarks/frames.py"
EXTRAS = {"serve": SERVING, "video": VIDEO}
SCRIPTS = {"critic-jax": critic_jax.cli.VERBS, "critic-data": critic_data.cli.VERBS}


def call(*command: str | Path, cwd: Path) -> str:
    """Run a command without this process's Python paths; its stdout. Fails with its output."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, (
        f"{command} left with {done.returncode}\n{done.stdout}{done.stderr}"
    )
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the wheel is made of: setuptools leaves folders of its own beside it."""
    copy = tmp_path_factory.mktemp("source") / "clone"
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy)
    return copy


@pytest.fixture(scope="module")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as a release would be."""
    out = tmp_path_factory.mktemp("wheel")
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out)
    call(*build, cwd=clone)
    (path,) = out.glob("*.whl")
    return path


def new_environment(folder: Path) -> Path:
    """An empty virtual environment, even without pip; its folder of packages."""
    call(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    (packages,) = folder.glob("lib/python*/site-packages")
    return packages


def install(folder: Path, *arguments: str | Path) -> None:
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin/python", "install")
    call(*pip, "--quiet", "--no-input", "--disable-pip-version-check", *arguments, cwd=folder)


def check_every_verb_answers(environment: Path, outside: Path) -> None:
    for script, verbs in SCRIPTS.items():
        overview = call(environment / "bin" / script, cwd=outside)
        for verb in verbs:
            assert f"\n  {verb} " in overview
            assert f"usage: {script} {verb}" in call(
                environment / "bin" / script, verb, "--help", cwd=outside
            )
        assert critic_jax.__version__ in call(
            environment / "bin" / script, "--version", cwd=outside
        )


def test_the_wheel_holds_every_source_file_and_nothing_else(clone: Path, wheel: Path) -> None:
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = {
        f"{package}/{file.relative_to(clone / folder)}"
        for folder, package in FOLDERS.items()
        for file in (clone / folder).rglob("*")
        if file.is_file()
    }
    assert inside == wanted
    assert {"critic_jax/py.typed", "critic_data/cli.py", "critic_configs/__init__.py"} <= inside


def test_the_wheel_names_its_licence_and_scripts(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        metadata = archive.read(f"{info}/METADATA").decode()
        licence = archive.read(f"{info}/licenses/LICENSE").decode()
        scripts = archive.read(f"{info}/entry_points.txt").decode()
    assert f"\nVersion: {critic_jax.__version__}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata
    assert "Apache License" in licence and "END OF TERMS AND CONDITIONS" in licence
    assert "critic-jax = critic_jax.cli:main" in scripts
    assert "critic-data = critic_data.cli:main" in scripts


def test_every_verb_answers_help_outside_the_clone(wheel: Path, tmp_path: Path) -> None:
    environment, outside = tmp_path / "env", tmp_path / "outside"
    outside.mkdir()
    packages = new_environment(environment)
    install(environment, "--no-deps", "--no-index", wheel)
    # What the wheel needs comes from the environment of this test. A path added this way reads
    # no .pth files, so an editable install there cannot stand in for the wheel.
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for package in ("critic_jax", "critic_data", "critic_configs"):
        show = f"import {package}; print({package}.__file__)"
        place = call(environment / "bin/python", "-c", show, cwd=outside).strip()
        assert place == str(packages / package / "__init__.py")
    check_every_verb_answers(environment, outside)


@pytest.mark.slow
def test_the_wheel_installs_into_an_empty_environment(
    clone: Path, wheel: Path, tmp_path: Path
) -> None:
    environment, outside = tmp_path / "env", tmp_path / "outside"
    outside.mkdir()
    new_environment(environment)
    install(environment, wheel)
    check_every_verb_answers(environment, outside)
    # Every module imports there: nothing leans on a package that only tests or extras bring, but
    # for the endpoint, whose verb says what it lacks.
    modules = [
        ".".join([package, *file.relative_to(clone / folder).with_suffix("").parts])
        for folder, package in FOLDERS.items()
        for file in sorted((clone / folder).rglob("*.py"))
        if file.name != "__init__.py" and not file.is_relative_to(clone / SERVING)
    ]
    served = (environment / "bin/critic-jax", "serve", "--model", "m")
    lacking = subprocess.run(served, cwd=outside, capture_output=True, text=True)
    assert lacking.returncode == 2 and lacking.stderr.count("\n") == 1
    assert "pip install 'critic-jax[serve]'" in lacking.stderr
    call(environment / "bin/python", "-c", f"import {', '.join(modules)}", cwd=outside)


def test_the_import_is_light(tmp_path: Path) -> None:
    program = (
        "import json, sys, time; start = time.perf_counter(); import critic_jax; "
        "print(json.dumps([time.perf_counter() - start, sorted(sys.modules)]))"
    )
    runs = [json.loads(call(sys.executable, "-c", program, cwd=tmp_path)) for _ in range(3)]
    assert min(seconds for seconds, _ in runs) < 0.5
    modules = set(runs[0][1])
    assert "critic_jax" in modules
    assert not modules & {"jax", "jaxlib", "flax", "transformers", "tokenizers", "numpy", "torch"}


@pytest.mark.parametrize("room", ["imaging", "text", "tree", "data"])
def test_rooms_that_loader_processes_import_know_no_jax(room: str, tmp_path: Path) -> None:
    program = f"import sys, critic_jax.{room}; print(*sys.modules)"
    modules = set(call(sys.executable, "-c", program, cwd=tmp_path).split())
    assert f"critic_jax.{room}" in modules
    assert not modules & {"jax", "jaxlib", "flax", "transformers", "torch"}


def test_dependencies_are_what_the_code_imports() -> None:
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    apart = {
        extra: [file for file in files if file.is_relative_to(ROOT / place)]
        for extra, place in EXTRAS.items()
    }
    needed = packages_of(file for file in files if not any(file in of for of in apart.values()))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert named_in(project["dependencies"]) == needed
    for extra, of in apart.items():
        assert named_in(project["optional-dependencies"][extra]) == packages_of(of) - needed
        assert of and packages_of(of) <= needed | named_in(project["optional-dependencies"]["test"])


def named_in(lines: Iterable[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in lines}


def packages_of(files: Iterable[Path]) -> set[str]:
    """What must be installed for them to be imported."""
    imported = {
        name.split(".")[0]
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        for name in imported_modules(node)
    }
    foreign = imported - sys.stdlib_module_names - set(FOLDERS.values())
    owner = importlib.metadata.packages_distributions()
    return {canonicalize_name(owner[name][0]) for name in foreign}


def imported_modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [name.name for name in node.names]
    return [str(node.module)] if isinstance(node, ast.ImportFrom) and not node.level else []


def test_public_names_are_found_where_the_table_says() -> None:
    for name, module in critic_jax._PUBLIC.items():
        value = getattr(critic_jax, name)
        assert value is getattr(sys.modules[module], name)
        assert name in dir(critic_jax)
    assert set(critic_jax.__all__) == {*critic_jax._PUBLIC, "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'Critique'"):
        _ = critic_jax.Critique
