"""Promises of the project as a whole: what an import loads, what is public, what is committed."""

import ast
import doctest
import importlib
import pickle
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gradood

ROOT = Path(__file__).resolve().parents[2]

HEAVY = {
    *("PIL", "pandas", "pyarrow", "scipy", "sklearn", "torch"),
    *("matplotlib", "rich", "typer"),
    *("fastapi", "jinja2", "pydantic", "ray"),
    *("prometheus_client", "starlette", "uvicorn"),
    *("fiftyone", "google.protobuf", "grpc", "huggingface_hub", "mlflow"),
}

SUBMODULES = (module.name for module in pkgutil.walk_packages(gradood.__path__, "gradood."))
MODULES = ["gradood", *sorted(name for name in SUBMODULES if "._" not in name)]

# Folders that only one machine has, and registries. Written so that they do not find themselves.
MACHINE_PATH = re.compile(r"(?<![\w.~$}/-])/(root|work|home/\w+|Users/\w+|opt/\w+)/")
REGISTRY = re.compile(r"pypi[.]org|pythonhosted[.]org|npmjs[.]org|download[.]pytorch[.]org")


def test_importing_gradood_loads_nothing_heavy():
    program = f"import gradood, sys; print(*sorted(sys.modules.keys() & {HEAVY!r}))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_listed_sorted_and_exist(name):
    module = importlib.import_module(name)
    public = list(module.__all__)
    assert public == sorted(set(public))
    assert [entry for entry in public if not hasattr(module, entry)] == []


def test_the_names_beside_the_detectors_are_these():
    """A detector is added by its file alone; any other public name is added here on purpose."""
    assert sorted({*gradood.__all__} - {*gradood.detectors.__all__}) == [
        *("Detector", "Guard", "Learner", "Monitor", "OnnxJudge", "RegionMap", "Result"),
        *("Results", "Table", "Watch", "choose", "errors", "evaluate", "export", "guard"),
        *("inspect", "load", "methods", "metrics", "plots", "region_map", "zero_shot"),
    ]


def test_public_names_are_at_home_where_they_are_imported_from():
    homes = {name: getattr(gradood, name) for name in gradood.__all__}
    modules = ("errors", "metrics", "plots")
    assert {n for n, v in homes.items() if getattr(v, "__module__", None) != "gradood"} == {
        *modules
    }
    for name in gradood.detectors.__all__:
        detector = homes[name]()
        assert repr(detector) == f"{name}()"
        assert type(pickle.loads(pickle.dumps(detector))) is homes[name]


@pytest.mark.parametrize("name", MODULES)
def test_every_example_of_a_docstring_is_run(name):
    """Also of a class that is shown as one of another module."""
    module = importlib.import_module(name)
    source = Path(module.__file__).read_text(encoding="utf-8")
    written = sum(
        ">>>" in (ast.get_docstring(node) or "")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    )
    found = doctest.DocTestFinder(exclude_empty=True).find(module, name)
    assert sum(bool(test.examples) for test in found) == written


def committed() -> list[Path]:
    """Files that are, or are about to be, in the repository."""
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and a clone")
    files = [ROOT / name for name in listing.split("\0") if name]
    return [file for file in files if file.is_file()]


def test_no_machine_path_and_no_registry_host_is_committed():
    found = []
    for file in committed():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if MACHINE_PATH.search(line) or REGISTRY.search(line):
                found.append(f"{file.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_no_lock_file_is_committed():
    locks = {"uv.lock", "poetry.lock", "Pipfile.lock", "pdm.lock", "pylock.toml"}
    assert [file.name for file in committed() if file.name in locks] == []


def test_contributing_fits_one_page_and_a_worked_example():
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 140


def test_pre_commit_runs_what_ci_runs():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = makefile.split("\nlint:")[1].split("\n\n")[0]
    in_make = re.findall(r"^\t\$\(BIN\)/(.+)$", recipe, flags=re.MULTILINE)
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    in_hooks = re.findall(r"entry: \.venv/bin/(.+)$", hooks, flags=re.MULTILINE)
    assert in_make == in_hooks
    assert "section lint" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_ci_runs_the_tests_the_slow_ones_the_contract_and_the_mutations():
    """What `make test` leaves out is a step of its own, and nothing else is left out."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipes = {
        target: makefile.split(f"\n{target}:")[1].split("\n\n")[0]
        for target in ("test", "slow", "contract", "mutations", "test-full")
    }
    left_out = re.findall(
        r"--ignore=\S+|--deselect|-k|-m \"[^\"]+\"", recipes["test"].split("\n")[-1]
    )
    assert left_out == ["--ignore=tests/test_mutations.py", '-m "not options and not slow"']
    assert "$(PYTEST) --ignore=tests/test_mutations.py -m slow $(ARGS)" in recipes["slow"]
    assert "$(PYTEST) tests/contract/test_contract.py -m options $(ARGS)" in recipes["contract"]
    assert "$(PYTEST) tests/test_mutations.py $(ARGS)" in recipes["mutations"]
    assert "$(PYTEST) --full $(ARGS)" in recipes["test-full"]
    sections = re.findall(
        r"^section (\S+)", (ROOT / ".ci" / "run").read_text("utf-8"), re.MULTILINE
    )
    assert sections == [
        "pages",
        "demo-cluster",
        "test",
        "slow",
        "contract",
        "docs",
        "mutations",
        "lint",
        "test-hf",
    ]
