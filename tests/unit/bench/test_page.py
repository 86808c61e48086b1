import importlib.util
import re
from pathlib import Path

import pytest

from gradood.bench._page import method_page, site
from gradood.errors import UnknownNameError
from gradood.registry import detector_class, methods

ROOT = Path(__file__).resolve().parents[3]
NAMES = [method.name for method in methods()]


def generator():
    """docs/generate.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_committed_pages_are_up_to_date():
    """Of a new detector the page may come later; `docs/generate.py --check` asks for it."""
    assert generator().outdated(ROOT / "docs" / "methods") == []


def test_check_tells_a_stale_a_missing_and_a_superfluous_page(tmp_path, capsys):
    generate = generator()
    assert generate.main([], tmp_path) == 0
    assert generate.main(["--check"], tmp_path) == 0
    (tmp_path / "line.md").write_text("old", encoding="utf-8")
    (tmp_path / "msp.md").unlink()
    (tmp_path / "gone.md").write_text("of a method that is no more", encoding="utf-8")
    capsys.readouterr()
    assert generate.main(["--check"], tmp_path) == 1
    told = re.findall(r"^stale: (\S+);", capsys.readouterr().err, re.M)
    assert told == ["gone.md", "line.md", "msp.md"]
    assert (tmp_path / "line.md").read_text(encoding="utf-8") == "old"
    assert generate.main([], tmp_path) == 0
    assert generate.stale(tmp_path) == []


def test_the_index_links_every_page():
    made = site()
    linked = re.findall(r"\]\(([\w+-]+\.md)\)", made["index.md"])
    assert sorted(linked) == sorted(made.keys() - {"index.md"})


@pytest.mark.parametrize("name", NAMES)
def test_every_option_has_a_meaning(name):
    page = method_page(name)
    assert [option.name for option in page.options if not option.meaning] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_example_makes_the_detector(name):
    page = method_page(name)
    namespace = {"gradood": importlib.import_module("gradood")}
    assert type(eval(page.example, namespace)) is detector_class(name)


@pytest.mark.parametrize("name", NAMES)
def test_no_docstring_markup_and_no_bare_citation_is_left(name):
    text = method_page(name).markdown()
    assert "``" not in text.replace("```", "")
    assert not re.search(r"(?<!\()\[[a-z]+\d{4}[a-z]+\]", text)
    assert ">>>" not in text


def test_a_page_has_the_formula_the_default_and_the_paper():
    text = method_page("line").markdown()
    assert "`score = −logsumexp(" in text
    assert "| `clip` | `'auto'` | δ, absolute;" in text
    assert "Yong Hyun Ahn" in text
    assert "monitor.fit(train_loader)" in text
    assert "monitor.fit" not in method_page("msp").markdown()


def test_a_miss_suggests():
    with pytest.raises(UnknownNameError, match="did you mean 'grood'"):
        method_page("groot")
