"""What the library says, in the words of the shell; files; a model in the working folder."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import gradood
from gradood.cli import main
from gradood.cli._exits import PHRASES, Unavailable, explain, in_shell_words
from gradood.cli._output import write_file
from gradood.errors import CalibrationError, ConfigError, DataError, ModelMismatchError
from gradood.models import build

SOURCE = Path(gradood.__file__).parent


def text_of(node: ast.AST) -> str:
    """A literal text, with {} for what is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text_of, node.values))
    if isinstance(node, ast.FormattedValue):
        return "{}"
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


@pytest.fixture(scope="module")
def library() -> list[str]:
    """Every text in the library's code."""
    files = [p for p in SOURCE.rglob("*.py") if p.relative_to(SOURCE).parts[0] != "cli"]
    return [
        text_of(node) for path in files for node in ast.walk(ast.parse(path.read_text("utf-8")))
    ]


@pytest.mark.parametrize("said", [said for said, _ in PHRASES])
def test_each_phrase_is_one_that_the_library_says(said, library):
    wanted = re.compile(said, re.DOTALL)
    assert any(wanted.search(text) for text in library)


@pytest.mark.parametrize(
    ("said", "shell"),
    [
        (
            "nothing can be decided: call monitor.calibrate(held_out, fpr=0.05) first. Scores "
            "alone: monitor.score.",
            "nothing can be decided: run gradood calibrate first.",
        ),
        ("say why it is right with allow_overlap='reason'.", "right with --allow-overlap REASON."),
        ("vim with dimension=9 leaves nothing; give less than 8, or dimension='auto'.",
         "vim with dimension=9 leaves nothing; give less than 8, or --option vim.dimension=auto."),
        ("gaia-a reads norms. Name some with layers=[…], or leave gaia-a out.",
         "gaia-a reads norms. Name some with --option gaia-a.layers=A,B, or leave gaia-a out."),
        ("grood mixes. Name early_layer=…, or use ood_prototype='class-mean'.",
         "grood mixes. Name --option grood.early_layer=LAYER, or use --option "
         "grood.ood_prototype=class-mean."),
        ("Leave that row out, or pass labeled=False.", "Leave that row out."),
        ("Give more; or fit= with data to fit on; by detectors='energy' alone it needs 19.",
         "Give more; or --training with data to fit on; by --methods energy, and then gradood "
         "calibrate, it needs 19."),
        ("no names; give them (--id-classes, TrainingData.id_classes).",
         "no names; give them (--id-classes)."),
    ],
)  # fmt: skip
def test_calls_and_arguments_become_commands_and_options(said, shell):
    assert in_shell_words(said).endswith(shell)


def test_an_argument_of_the_command_is_called_as_its_option():
    options = {"mode": "--mode", "fpr": "--fpr", "max_bad_fraction": "--max-bad-fraction"}
    said = "mode='pack' and fpr=2; the mode is one"
    assert in_shell_words(said, options) == "--mode='pack' and --fpr=2; the mode is one"
    assert in_shell_words("max_bad_fraction is 2", options) == "--max-bad-fraction is 2"
    assert in_shell_words("line.mode=1 --mode=2 model=3", options) == "line.mode=1 --mode=2 model=3"


def test_only_errors_of_the_library_are_reworded():
    said = "call monitor.calibrate(held_out, fpr=0.05) first. "
    assert explain(CalibrationError(said)) == (2, "run gradood calibrate first.")
    assert explain(OSError(said))[1].startswith("call monitor.calibrate")


@pytest.mark.parametrize(
    "error", [ConfigError, DataError, ModelMismatchError], ids=lambda kind: kind.__name__
)
def test_the_exit_code_stays(error):
    assert explain(error("x"))[0] == explain(error("fpr=2"), {"fpr": "--fpr"})[0]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A model of one's own, a fitted detector, and images side by side."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    generator = torch.Generator().manual_seed(0)
    for name, count in (("fit", 40), ("held-out", 40)):
        (tmp_path / name).mkdir()
        for i in range(count):
            pixels = (torch.rand(8, 8, generator=generator) * 255).byte().numpy()
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    torch.manual_seed(0)
    save_file(build("digits_net", num_classes=3).state_dict(), tmp_path / "net.safetensors")
    return tmp_path


NET = ["--model", "digits_net", "--num-classes", "3", "--weights", "net.safetensors"]


def test_a_detector_that_promises_nothing_cannot_score_and_says_what_to_run(folders, capsys):
    fit = ["fit", *NET, "--data", "fit", "--methods", "msp", "--out", "d.safetensors"]
    assert main(fit) == 0
    capsys.readouterr()
    given = [*NET, "--detector", "d.safetensors"]
    assert main(["score", "held-out", *given, "--out", "scores", "--workers", "0"]) == 2
    err = capsys.readouterr().err
    assert "gradood calibrate" in err and "monitor." not in err
    words = ["--data", "fit", "--out", "d.safetensors"]
    assert main(["calibrate", *given, *words, "--fpr", "2"]) == 2
    assert capsys.readouterr().err.startswith("error: --fpr=2.0; expected a number between 0 and 1")


def test_another_model_is_refused_with_the_option_that_allows_it(folders, capsys):
    assert main(["fit", *NET, "--data", "fit", "--methods", "knn", "--option", "knn.k=5", "--out",
                 "d.safetensors"]) == 0  # fmt: skip
    torch.manual_seed(1)
    save_file(build("digits_net", num_classes=3).state_dict(), folders / "net.safetensors")
    given = ["calibrate", *NET, "--detector", "d.safetensors", "--data", "held-out"]
    assert main([*given, "--out", "d.safetensors"]) == 3
    assert "give --override REASON, which is stamped" in capsys.readouterr().err


def test_calibrating_on_the_fit_data_names_the_option_that_allows_it(folders, capsys):
    words = ["--option", "knn.k=5", "--out", "d.safetensors"]
    assert main(["fit", *NET, "--data", "fit", "--methods", "knn", *words]) == 0
    given = ["calibrate", *NET, "--detector", "d.safetensors", "--data", "fit"]
    assert main([*given, "--out", "d.safetensors"]) == 2
    err = capsys.readouterr().err
    assert "with --allow-overlap REASON." in err and "allow_overlap" not in err


MODEL = """
import torch

def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [["-P", "-m", "gradood"], ["-P", "-m", "gradood.cli"]])
def test_a_model_in_the_working_folder_needs_no_path(tmp_path, how):
    """-P, as the installed script has it: the working folder is not importable by itself."""
    (tmp_path / "mynet.py").write_text(MODEL, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parent), "OMP_NUM_THREADS": "1"}
    words = ["inspect", "--model", "mynet:make", "--shape", "3,8,8"]
    done = subprocess.run(
        [sys.executable, *how, *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "classes   4" in done.stdout


def test_the_working_folder_is_importable_only_while_a_command_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert main(["--version"]) == 0
    assert sys.path == before


def test_a_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    file = tmp_path / "page.md"
    file.write_text("before", encoding="utf-8")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("gradood._io.atomic.os.replace", full)
        with pytest.raises(Unavailable, match=r"page\.md' cannot be written"):
            write_file(file, "after")
    assert file.read_text(encoding="utf-8") == "before"
    assert os.listdir(tmp_path) == ["page.md"]
    os.link(file, tmp_path / "old")
    write_file(file, "after")
    assert file.read_text(encoding="utf-8") == "after"
    assert (tmp_path / "old").read_text(encoding="utf-8") == "before"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_device_is_written_to_as_it_is(tmp_path):
    import threading

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text(encoding="utf-8")))
    reader.start()
    write_file(pipe, "through")
    reader.join(10)
    assert read == ["through"]
