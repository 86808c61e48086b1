import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import typer

import gradood
import gradood.bench._page  # Before a test puts another function into the registry.
from gradood._io.markdown import aligned
from gradood.cli import main
from gradood.cli._app import app
from gradood.cli._exits import explain
from gradood.cli._output import talking
from gradood.errors import (
    ArtifactError,
    CalibrationError,
    ConfigError,
    DataError,
    GradoodWarning,
    ModelMismatchError,
    NotFittedError,
    TapError,
    UnknownNameError,
)

SOURCE = str(Path(gradood.__file__).parents[1])
PLAIN = {name: value for name, value in os.environ.items() if "COLOR" not in name}
PLAIN.pop("GITHUB_ACTIONS", None)
PLAIN["PYTHONPATH"] = SOURCE


def python(program: str, **options) -> subprocess.CompletedProcess:
    """Run by another Python, whose output is no terminal."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=PLAIN,
        **options,
    )


def test_help_and_version_load_no_torch_and_are_plain_text():
    done = python(
        "import sys\n"
        "from gradood.cli import main\n"
        "for words in (['--help'], ['--version'], ['methods', '--help'], ['demo', '--help'],\n"
        "              ['inspect', '--help'], ['bench', '--help'], ['bench', '--nope']):\n"
        "    print(main(words), file=sys.stderr)\n"
        "print(sorted(sys.modules.keys() & {'torch', 'sklearn', 'PIL', 'pyarrow', 'numpy'}))\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert f"gradood {gradood.__version__}\n" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    codes = [line for line in done.stderr.splitlines() if line.isdigit()]
    assert codes == ["0", "0", "0", "0", "0", "0", "2"]


@pytest.mark.parametrize("name", ["demo", "methods", "inspect", "bench", "train"])
def test_every_command_has_json(name):
    command = typer.main.get_command(app).commands[name]
    assert "--json" in [word for option in command.params for word in option.opts]


def test_without_typer_it_says_what_to_install():
    done = python(
        "import sys\n"
        "sys.modules['typer'] = None\n"
        "from gradood.cli import main\n"
        "sys.exit(main(['methods']))\n"
    )
    assert done.returncode == 5
    assert done.stdout == ""
    assert done.stderr == (
        "error: the command line needs typer, which is not installed: pip install 'gradood[cli]'.\n"
    )


@pytest.mark.parametrize("buffered", [True, False])
def test_a_reader_that_leaves_early_ends_it_quietly(buffered):
    ending = "sys.exit(main(['--version']))"
    program = f"import sys, time; time.sleep(0.5); from gradood.cli import main; {ending}"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=PLAIN | {"PYTHONUNBUFFERED": "" if buffered else "1"},
    )
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 141
    assert said == b""


@pytest.mark.parametrize("module", ["gradood", "gradood.cli"])
def test_the_module_can_be_run(module):
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"],
        capture_output=True,
        text=True,
        env=PLAIN,
    )
    assert (done.returncode, done.stdout) == (0, f"gradood {gradood.__version__}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bnch"], "did you mean 'bench'"),
        (["methods", "--jsn"], "error: no such option --jsn; did you mean '--json'?"),
        (["demo", "--epochs", "0"], "invalid value for '--epochs'"),
        (["methods", "enrgy"], "error: no detector 'enrgy'; did you mean 'energy'"),
        (["fit"], "error: missing option '--model' (see gradood fit --help)"),
        (["bench"], "error: no network was given; name one with --model, or several with --run."),
    ],
)
def test_wrong_words_are_one_line_on_stderr_and_exit_2(words, said, capsys):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said.lower() in err.lower()
    assert err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (DataError("x"), 2),
        (UnknownNameError("x"), 2),
        (TapError("x"), 2),
        (NotFittedError("x"), 2),
        (CalibrationError("x"), 2),
        (ArtifactError("x"), 3),
        (ModelMismatchError("x"), 3),
        (ModuleNotFoundError("x"), 5),
        (OSError("x"), 5),
        (MemoryError("x"), 5),
        (RuntimeError("x"), 70),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(), 141),
        (typer.Exit(4), 4),
    ],
)
def test_exit_codes(error, code, monkeypatch, capsys):
    monkeypatch.delenv("GRADOOD_TRACEBACK", raising=False)

    def failing():
        raise error

    monkeypatch.setattr("gradood.registry.methods", failing)
    if code == 141:
        assert explain(error) == (141, "")
        return
    assert main(["methods"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert err.count("\n") == (0 if code == 4 else 1)


def test_a_message_of_several_lines_becomes_one():
    assert explain(ConfigError("a\n  b\n")) == (2, "a b")


def test_an_unexpected_error_shows_its_traceback_only_when_asked(monkeypatch, capsys):
    def failing():
        raise ZeroDivisionError("deep inside")

    monkeypatch.setattr("gradood.registry.methods", failing)
    monkeypatch.setenv("GRADOOD_TRACEBACK", "1")
    assert main(["methods"]) == 70
    err = capsys.readouterr().err
    assert "Traceback" in err and "in failing" in err
    assert err.splitlines()[-1].startswith("error: ZeroDivisionError: deep inside")


def test_warnings_and_log_records_are_lines_on_stderr(capsys):
    import logging

    before = warnings.showwarning
    with talking():
        warnings.warn("first\nsecond", GradoodWarning, stacklevel=1)
        logging.getLogger("gradood.detectors").warning("%d classes", 3)
        logging.getLogger("gradood.detectors").info("not said")
    assert warnings.showwarning is before
    logging.getLogger("gradood.detectors").warning("said by nobody")
    assert capsys.readouterr() == ("", "warning: first second\nwarning: 3 classes\n")


def test_without_a_command_it_shows_the_help(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Usage: gradood" in err and " bench " in err and "--version" in err
    assert err.splitlines()[-1] == "error: missing command (see gradood --help)"


def test_a_table_is_aligned():
    assert aligned("| a | bb |\n| --- | ---: |\n| ccccc | 1 |") == (
        "| a     |  bb |\n| ----- | --: |\n| ccccc |   1 |"
    )


def test_methods_are_listed(capsys):
    assert main(["methods"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    listed, begin = out.split("\n\n")
    names = [line.split()[0] for line in listed.splitlines()[1:]]
    assert names == [method.name for method in gradood.methods()]
    costs = {line.split()[0]: line for line in listed.splitlines()}
    assert "  COST  " in costs["METHOD"] and "  own passes  " in costs["odin"]
    assert "  forward + backward  " in costs["gaia-a"] and "  forward  " in costs["knn"]
    assert "Begin with knn" in begin


def test_methods_of_a_kind_are_sorted_by_what_was_measured(capsys):
    assert main(["methods", "--kind", "text"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines[1 : lines.index("")]]
    aurocs = [float(line.split()[1]) for line in lines[1 : lines.index("")]]
    assert aurocs == sorted(aurocs, reverse=True) and len(names) > 40
    assert {*names} <= {method.name for method in gradood.methods()}
    assert main(["methods", "--kind", "text", "--json"]) == 0
    assert [*json.loads(capsys.readouterr().out)["auroc"]] == names
    assert main(["methods", "--kind", "txt"]) == 2
    assert "did you mean 'text'" in capsys.readouterr().err
    assert main(["methods", "knn", "--kind", "text"]) == 2


def test_figures_by_kind_are_those_of_the_results():
    script = Path(__file__).parents[3] / "docs" / "kinds.py"
    assert subprocess.run([sys.executable, script, "--check"], check=False).returncode == 0


def test_methods_as_json(capsys):
    assert main(["methods", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["methods"]
    assert main(["methods", "line", "--json"]) == 0
    page = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert page in listed
    assert page["references"][0]["year"] == 2023
    assert [option["name"] for option in page["options"]][2] == "clip"


def test_a_method_has_a_page(capsys):
    assert main(["methods", "gaia-z"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# `gaia-z`: GAIAZ\n")
    assert "**Fails when:**" in out
