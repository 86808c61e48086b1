"""The README: its blocks are those that `scripts/readme.py` runs, and the files it names exist."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

import gradood
from gradood.bench._demo_folder import DETECTOR, WEIGHTS
from gradood.errors import ConfigError
from gradood.models import open_model

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def readme():
    spec = importlib.util.spec_from_file_location("readme", ROOT / "scripts" / "readme.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["readme"] = module
    spec.loader.exec_module(module)
    return module


def test_every_block_is_run_but_the_one_that_installs(readme):
    blocks = readme.blocks(PAGE)
    assert [block.text for block in blocks if block.network] == ['pip install ".[cli]"\n']
    assert {block.language for block in blocks} == {"sh", "python"}
    shell = readme.script(blocks, Path("README.py"), network=False)
    for block in blocks:
        assert (block.text in shell) == (block.language == "sh" and not block.network)
    assert shell.count("python -W error") == 1


def test_the_python_blocks_are_one_program_on_their_own_lines(readme):
    program = readme.program(readme.blocks(PAGE))
    compile(program, "README.py", "exec")
    lines = PAGE.splitlines()
    for number, line in enumerate(program.splitlines()):
        assert line in ("", lines[number])


def test_the_readme_uses_what_the_demo_leaves():
    for name in (
        f"demo/{WEIGHTS}",
        "demo/train",
        "demo/val",
        "demo/test",
        "demo/near",
        "demo/inbox",
    ):
        assert name in PAGE
    assert DETECTOR == "detector.safetensors"
    assert "/demo/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/glossary.md"])
def test_links_to_files_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_dir_shows_what_is_public_and_no_import():
    shown = [name for name in dir(gradood) if not name.startswith("__")]
    assert shown == sorted(gradood.__all__)


def test_a_model_that_a_library_does_not_have_is_told_without_importing_it(tmp_path, monkeypatch):
    models = tmp_path / "timm" / "models"
    models.mkdir(parents=True)
    (tmp_path / "timm" / "__init__.py").write_text("raise SystemExit('it was imported')")
    (models / "resnet.py").write_text("@register_model\ndef resnet18(pretrained=False):\n    ...\n")
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"timm has no model 'resnet81'; did you mean 'resnet18'"):
        open_model("timm:resnet81")
    with pytest.raises(SystemExit, match="it was imported"):
        open_model("timm:resnet18.a1_in1k")
