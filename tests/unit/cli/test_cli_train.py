import json

import pytest
import torch
from safetensors.torch import save_file

from gradood.cli import main
from gradood.models import build

pytest.importorskip("PIL")


@pytest.fixture
def folders(tmp_path):
    """Gray digits-sized images: stripes of three kinds are known, noise is not."""
    from PIL import Image

    generator = torch.Generator().manual_seed(0)
    for label in range(3):
        folder = tmp_path / "id" / f"stripe{label}s"
        folder.mkdir(parents=True)
        for i in range(24):
            pixels = torch.rand(8, 8, generator=generator) * 60
            pixels[2 * label : 2 * label + 2] += 150
            Image.fromarray(pixels.byte().numpy()).save(folder / f"{i}.png")
    noise = tmp_path / "aux" / "thin stripe1"
    noise.mkdir(parents=True)
    for i in range(60):
        pixels = torch.rand(8, 8, generator=generator) * 255
        Image.fromarray(pixels.byte().numpy()).save(noise / f"{i}.png")
    torch.manual_seed(0)
    save_file(build("digits_net", num_classes=3).state_dict(), tmp_path / "start.safetensors")
    return tmp_path


def words(folders, *more: str, margins: bool = True) -> list[str]:
    small = ["batch.id=8", "validation.id=12", "validation.aux=12", "schedule.steps=4"]
    small.append("augment.crop_padding=0")  # Where a stripe is, is its class.
    if margins:
        for term in ("margin", "gradient"):
            small += [f"loss.{term}.m_in=-2.0", f"loss.{term}.m_out=0"]
    return [
        "train",
        *("--model", "digits_net", "--num-classes", "3"),
        *("--id", str(folders / "id"), "--aux", str(folders / "aux")),
        *("--out", str(folders / "run"), "--from", str(folders / "start.safetensors")),
        *[word for change in small for word in ("--set", change)],
        *more,
    ]


def test_a_run_from_folders_to_a_benchmark(folders, capsys):
    assert main(words(folders, "--method", "greg", "--json")) == 0
    said = capsys.readouterr()
    record = json.loads(said.out)
    assert record["recipe"]["method"] == "greg" and record["steps"] == 4
    assert "1 auxiliary classes look like known ones: 'stripe1s' ('thin stripe1')" in said.err
    assert (folders / "run" / "model.safetensors").is_file()
    bench = ["bench", "--model", "digits_net", "--num-classes", "3", "--methods", "energy"]
    bench += ["--weights", str(folders / "run" / "model.safetensors")]
    assert main([*bench, "--id", str(folders / "id"), "--ood", f"noise={folders / 'aux'}"]) == 0
    assert "energy" in capsys.readouterr().out


def test_pictures_to_mix_in_are_a_folder(folders, capsys):
    pictures = ["--mixing-set", str(folders / "aux")]
    assert main(words(folders, "--method", "plain", *pictures, margins=False)) == 2
    assert "pictures to mix in were given, and recipe 'plain'" in capsys.readouterr().err
    assert main(words(folders, "--method", "pixmix", *pictures, "--json", margins=False)) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["recipe"]["augment"]["pixmix"]["rounds"] == 4 and record["steps"] == 4


def test_classes_may_be_named_by_files(folders, capsys):
    (folders / "ours.txt").write_text("n01\tzebra\nn02\thorse\n\nn03\tdog\n")
    (folders / "theirs.txt").write_text("plains zebra\noak\n")
    files = [
        "--id-classes",
        str(folders / "ours.txt"),
        "--aux-classes",
        str(folders / "theirs.txt"),
    ]
    assert main(words(folders, "--method", "greg", *files)) == 0
    assert "look like known ones: 'zebra' ('plains zebra')" in capsys.readouterr().err


def test_the_interpolation_is_that_of_the_images(folders, capsys, monkeypatch):
    made = []

    def stopped(self, *given, **options):
        made.append(given)
        raise KeyboardInterrupt

    monkeypatch.setattr("gradood.training.Trainer.__init__", stopped)

    for interpolation in ("nearest", "bicubic"):
        options = ["--resize", "16", "--crop", "16", "--interpolation", interpolation]
        main(words(folders, "--method", "greg", *options))
    (nearest, bicubic) = (data.id[0][0] for _, _, data in made)
    assert nearest.shape == bicubic.shape == (1, 16, 16) and not torch.equal(nearest, bicubic)


def test_a_file_is_no_folder_to_write_to(folders, capsys):
    (folders / "run").write_text("")
    assert main(words(folders, "--method", "greg")) == 2
    assert "is, or lies in, a file; expected a folder" in capsys.readouterr().err


def test_a_run_is_gone_on_with(folders, capsys):
    assert main(words(folders, "--method", "greg")) == 0
    assert main(words(folders, "--method", "greg")) == 2
    err = capsys.readouterr().err
    assert "holds a run already; go on with it (--resume), or name another folder" in err
    assert main(words(folders, "--method", "greg", "--resume")) == 0
    assert "| before" in capsys.readouterr().out


def test_a_drop_of_accuracy_is_exit_code_1(folders, capsys):
    start = ["--method", "plain", "--set", "schedule.steps=30", "--set", "optimizer.lr=0.1"]
    assert main(words(folders, *start, margins=False)) == 0
    # A decay that leaves nothing of the weights.
    harsh = ["optimizer.weight_decay=100", "optimizer.momentum=0", "optimizer.nesterov=false"]
    trained = ["--from", str(folders / "run" / "model.safetensors"), "--out", str(folders / "b")]
    limit = ["--max-accuracy-drop", "0", *[w for change in harsh for w in ("--set", change)]]
    code = main(words(folders, "--method", "plain", *trained, *limit, margins=False))
    said = capsys.readouterr()
    assert code == 1, said.err
    assert "failed: accuracy on held-out known samples fell" in said.err
    assert json.loads((folders / "b" / "recipe.json").read_text())["failure"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "no --method and no --recipe"),
        (("--method", "grag"), "no method 'grag'; did you mean 'greg'"),
        (("--recipe", "cifar10-gre"), "no recipe 'cifar10-gre'; did you mean 'cifar10-greg'"),
        (("--method", "oe", "--recipe", "greg"), "which is for greg; give one of the two"),
        (("--method", "greg", "--set", "optimizer.rate=1"), "has no option 'rate'"),
        (("--method", "greg", "--aux", "nowhere"), "the auxiliary data: 'nowhere' does not exist"),
        (("--method", "greg", "--aux-classes", "nowhere"), "--aux-classes 'nowhere' cannot be"),
        (("--method", "greg", "--interpolation", "cubic"), "--interpolation is 'cubic'; expected"),
        (("--method", "greg", "--id-classes", "nowhere"), "--id-classes 'nowhere' cannot be"),
    ],
)
def test_wrong_usage_is_told(folders, capsys, more, said):
    assert main(words(folders, *more)) == 2
    assert said in capsys.readouterr().err


def test_an_untrained_network_is_not_fine_tuned(folders, capsys):
    given = words(folders, "--method", "greg")
    at = given.index("--from")
    assert main([*given[:at], *given[at + 2 :]]) == 2
    assert "fine-tunes a trained network, and 'digits_net' is untrained" in capsys.readouterr().err
