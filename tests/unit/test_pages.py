"""README and docs: blocks are run by `scripts/pages.py` or say why not, links lead somewhere."""

import importlib.util
import pydoc
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import gradood
from gradood.bench._demo_folder import DETECTOR, WEIGHTS
from gradood.cli._app import COMMANDS
from gradood.errors import ConfigError
from gradood.models import open_model

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")
FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
WRITTEN = re.compile(
    r"""(?:--(?:out|report|keep-partials|state|to) |save\(\W?|out=\W|open\(\W)(demo/[\w./-]+)"""
)
NEW = re.compile(r"--(?:out|report|keep-partials) (demo/\S+)")
"""Files and folders that a command makes, and does not replace."""
NAMES = [file.relative_to(ROOT).as_posix() for file in FILES]


def imported(name: str, path: str) -> ModuleType:
    """A file that is no part of the package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages():
    return imported("pages", "scripts/pages.py")


@pytest.fixture(scope="module")
def commands():
    return imported("list_of_commands", "docs/commands.py")


@pytest.fixture(scope="module")
def terms():
    return imported("terms_of_the_pages", "docs/terms.py")


@pytest.fixture(scope="module")
def links():
    return imported("links", "docs/links.py")


@pytest.fixture(scope="module")
def build(links):
    return imported("build_of_the_site", "docs/build.py")


def made(pages, text: str):
    return pages.Page("page.md", text)


def test_every_block_is_run_but_the_one_that_installs(pages, tmp_path):
    readme = pages.page(pages.README)
    blocks = readme.blocks
    network = [block.text for block in blocks if block.reason == pages.NETWORK]
    assert network == ['pip install ".[cli]"\n']
    assert {block.language for block in blocks} == {"sh", "python"}
    shell = pages.script(readme, tmp_path)
    for block in blocks:
        assert (block.text in shell) == (block.language == "sh" and not block.reason)
    assert shell.count("python -W error") == 1


@pytest.mark.parametrize("name", [name for name in NAMES if name != "CONTRIBUTING.md"])
def test_every_block_runs_or_says_why_not(pages, name):
    """A fence of another language, or one that is indented, would not be run, and no one told."""
    page = pages.page(ROOT / name)
    runnable = [block for block in page.blocks if block.runs()]
    shell = sum(block.language == "sh" for block in runnable)
    assert sum(isinstance(part, pages.Block) for part in page.parts()) == shell


def test_the_python_blocks_are_programs_on_their_own_lines(pages):
    lines = PAGE.splitlines()
    for program in pages.page(pages.README).parts():
        if isinstance(program, pages.Program):
            compile(program.text, "README.py", "exec")
            for number, line in enumerate(program.text.splitlines()):
                assert line in ("", lines[number])


def test_a_shell_block_ends_a_program(pages):
    blocks = ("python\na = 1", "python\nb = 2", "sh\nls", "python\nc = 3")
    text = "\n".join(f"```{block}\n```\n" for block in blocks)
    first, shell, last = made(pages, text).parts()
    assert (first.text.split(), first.line) == (["a", "=", "1", "b", "=", "2"], 2)
    assert (shell.text, last.text.strip()) == ("ls\n", "c = 3")
    assert last.text.splitlines().index("c = 3") + 1 == last.line == 14


@pytest.mark.parametrize(
    "text",
    ["```toml\na = 1\n```\n", "```\nls\n```\n", "- x\n\n  ```sh\n  ls\n  ```\n", "```sh\nls\n"],
)
def test_a_block_that_would_be_passed_over_is_refused(pages, text):
    with pytest.raises(SystemExit, match=r"page\.md: (line 2|a fence)"):
        _ = made(pages, text).blocks


def test_what_is_not_run_says_why_where_readers_see_it(pages):
    told = made(pages, "*Not run here: needs the network.*\n\n```toml\na = 1\n```\n").blocks
    assert [(block.reason, block.runs()) for block in told] == [("needs the network.", False)]
    assert told[0].runs(network=True)
    hidden = "<!-- Not run here: needs the network. -->\n\n```sh\nls\n```\n"
    assert made(pages, hidden).blocks[0].runs()


def test_every_setup_is_there_and_used(pages):
    used = {name for page in pages.pages() for name in re.findall(r"<!-- setup: (\w+)", page.text)}
    assert used == {file.stem for file in (ROOT / "docs" / "setup").glob("*.py")}


def test_the_pages_use_what_the_demo_leaves():
    text = "".join(file.read_text(encoding="utf-8") for file in FILES)
    for name in (WEIGHTS, DETECTOR, "train", "val", "test", "near", "far", "other", "inbox"):
        assert f"demo/{name}" in text
    assert DETECTOR == "detector.safetensors"
    assert "/demo/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_no_page_writes_where_another_does(pages):
    """A reader goes through several in one folder; each of them begins in a copy here."""
    written: dict[str, set[str]] = {}
    for page in pages.pages():
        for block in page.blocks:
            for name in WRITTEN.findall(block.text) if block.runs() else ():
                written.setdefault(name, set()).add(page.name)
    assert len(written) > 20
    assert {name: users for name, users in written.items() if len(users) > 1} == {}


def test_a_page_that_is_run_again_finds_no_file_in_its_way(pages):
    """What a command would not replace is removed before, on the page itself, or is replaced."""
    in_the_way = []
    for page in pages.pages():
        removed: list[str] = []
        for block in page.blocks:
            for line in block.text.replace("\\\n", " ").splitlines() if block.runs() else ():
                if line.startswith("rm -r"):
                    removed += re.findall(r"demo/[^\s&]+", line)
                elif (name := NEW.search(line)) and "--force" not in line:
                    free = any(f"{name[1]}/".startswith(f"{one}/") for one in removed)
                    in_the_way += [] if free else [(page.name, name[1])]
    assert in_the_way == []


def test_a_page_is_run_twice_in_one_folder(pages, tmp_path):
    shell = pages.repeated("set -euo pipefail\nmkdir made\n")
    done = subprocess.run(["bash", "-c", shell], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert done.returncode != 0 and "the second time" in done.stderr
    again = pages.repeated("set -euo pipefail\nrm -rf made\nmkdir made\n")
    assert subprocess.run(["bash", "-c", again], cwd=tmp_path).returncode == 0


def test_the_list_of_commands_is_that_of_the_help(commands):
    page = commands.PAGE.read_text(encoding="utf-8")
    assert commands.updated(page) == page, "run python docs/commands.py"
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| \[", page, re.M)
    helped = {command.__name__: (command.__doc__ or "").splitlines()[0] for command in COMMANDS}
    assert {name: line.replace("`", "") for name, line in rows} == helped


def test_the_glossary_explains_the_terms_of_the_pages(terms):
    assert terms.missing() == {}
    assert {"fisher", "min", "pac", "exchangeable", "shard", "monitor"} <= terms.used().keys()


def test_a_setup_defines_what_its_pages_say(pages):
    for file in (ROOT / "docs" / "setup").glob("*.py"):
        text = file.read_text(encoding="utf-8")
        for name in ("gradood", "model", "images"):
            assert re.search(rf"^(import {name}$|.*\b{name}\b.* = )", text, re.M), (file.name, name)


@pytest.mark.parametrize("page", NAMES)
def test_links_to_files_lead_somewhere(page):
    text = re.sub(
        r"^```.*?^```$|`[^`\n]*`", "", (ROOT / page).read_text("utf-8"), flags=re.M | re.S
    )
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)", text)
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_every_page_is_in_the_navigation(build):
    """Sphinx fails the build for one that is not; this tells it without Sphinx."""
    table = tomllib.loads((ROOT / "docs" / "navigation.toml").read_text(encoding="utf-8"))
    patterns = [p for section in table["section"] for p in section["pages"]]
    patterns += [p for below in table["below"].values() for p in below]
    staging = build.Staging(Path("unused"))
    staging.written = {build.staged_name(name) for name in NAMES} | {"index.md"}
    listed = {*staging.named(patterns), "index"}
    assert {name.removesuffix(".md") for name in staging.written} - listed == set()


def test_every_guide_is_on_the_page_of_all_pages():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    folders = (ROOT / "docs", ROOT / "docs" / "how-to", ROOT / "docs" / "tutorials")
    names = {f.relative_to(ROOT / "docs").as_posix() for one in folders for f in one.glob("*.md")}
    assert [name for name in sorted(names - {"index.md"}) if f"({name}" not in index] == []


def test_links_of_staged_pages_lead_to_where_things_are(build, tmp_path):
    staging = build.Staging(tmp_path)
    for page in ("README.md", "docs/index.md", "docs/serve.md"):
        staging.page(page)
    assert "](tutorials/first-guard.md)" in (tmp_path / "index.md").read_text("utf-8")
    assert "](index.md)" in (tmp_path / "contents.md").read_text("utf-8")
    assert "](results/index.md)" in (tmp_path / "contents.md").read_text("utf-8")
    assert "](files/deploy/index.md)" in (tmp_path / "serve.md").read_text("utf-8")
    assert (tmp_path / "files/deploy/Dockerfile").is_file()


def test_a_broken_link_an_absent_anchor_and_a_foreign_script_are_found(links, tmp_path):
    (tmp_path / "a.html").write_text(
        '<h1 id="top">A</h1><a href="b.html#there">b</a><a href="#top">top</a><a href="b.html#no">'
        '</a><a href="c.html"></a><a href="https://example.org">w</a><img src="gone.svg">'
        '<script src="https://example.org/x.js"></script>'
    )
    (tmp_path / "b.html").write_text('<p id="there">B</p>')
    found = links.check(tmp_path)
    assert (found.pages, found.links) == (2, 5)
    assert sorted(found.broken) == [
        "a.html loads https://example.org/x.js, which is not in the site",
        "a.html → b.html#no",
        "a.html → c.html",
        "a.html → gone.svg",
    ]


def test_dir_shows_what_is_public_and_no_import():
    shown = [name for name in dir(gradood) if not name.startswith("__")]
    assert shown == sorted(gradood.__all__)


def test_help_begins_with_every_name_but_the_detectors():
    detectors = {method.detector for method in gradood.methods()}
    first = pydoc.render_doc(gradood, renderer=pydoc.plaintext).split("PACKAGE CONTENTS")[0]
    assert len(first.splitlines()) < 40
    assert {n for n in gradood.__all__ if n not in detectors and n not in first} == set()


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
