import json
import re

import numpy as np
import pytest
from PIL import Image

from gradood.cli import main


def test_a_reference_network_needs_only_its_name(capsys):
    assert main(["inspect", "--model", "digits_net"]) == 0
    out, err = capsys.readouterr()
    assert "head      head (Linear 64 → 10, bias), verified" in out
    assert re.search(r"^gaia-z +works", out, re.MULTILINE)
    assert err == ""


def test_as_json(capsys):
    assert main(["inspect", "--model", "digits_net", "--num-classes", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["classes"] == 3
    assert found["head_layer"] == "head"
    assert {use["method"] for use in found["uses"] if use["works"]} >= {"gaia-z", "line"}
    assert found["subject"]["preprocess"]["resize"] == 8


def test_a_model_of_ones_own_by_shape_or_by_images(tmp_path, capsys):
    own = ["inspect", "--model", "gradood.models.convnet:ConvNet", "--resize", "28", "--mode", "L"]
    assert main([*own, "--shape", "1,28,28"]) == 0
    by_shape = capsys.readouterr().out
    Image.fromarray(np.full((40, 30), 90, np.uint8)).save(tmp_path / "a.png")
    assert main([*own, "--input", str(tmp_path), "--crop", "28"]) == 0
    by_images = capsys.readouterr().out
    assert by_shape.splitlines()[0] == by_images.splitlines()[0] == "classes   10"
    assert by_shape.splitlines()[5] == by_images.splitlines()[5]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "resnet21"], "did you mean 'resnet20'"),
        (["--model", "torch.nn:Flatten"], "give --shape such as 3,32,32, or --input"),
        (["--model", "digits_net", "--shape", "1,x"], "--shape '1,x'; expected sizes"),
        (["--model", "digits_net", "--shape", "0,8,8"], "expected sizes"),
        (["--model", "digits_net", "--shape", "3,8,8"], "the model expects 4 dimensions with 1"),
        (["--model", "digits_net", "--shape", "1,8,8", "--input", "x"], "both given; give one"),
        (["--model", "digits_net", "--input", "absent"], "'absent' does not exist"),
        (
            ["--model", "torch.nn:Identity", "--shape", "3,4,4"],
            "logits (1, 3, 4, 4) at every position",
        ),
    ],
)
def test_what_is_wrong_exits_2(words, said, capsys):
    assert main(["inspect", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err and err.count("\n") == 1


def test_an_item_of_the_output_may_be_chosen(tmp_path, monkeypatch, capsys):
    (tmp_path / "two_heads.py").write_text(
        "from torch import nn\n"
        "class Two(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.aux, self.fc = nn.Linear(12, 6), nn.Linear(12, 4)\n"
        "    def forward(self, x):\n"
        "        return self.aux(x.flatten(1)), self.fc(x.flatten(1))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = ["inspect", "--model", "two_heads:Two", "--shape", "3,2,2"]
    assert main(words) == 2
    assert "Choose with --output, such as --output=1" in capsys.readouterr().err
    assert main([*words, "--output", "1"]) == 0
    assert capsys.readouterr().out.startswith("classes   4")
    assert main([*words, "--output", "logits"]) == 2
    assert "'logits' is not in what the model returned" in capsys.readouterr().err
