"""``gradood fit`` and ``gradood calibrate``: from images to a file that decides."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import gradood
from gradood.artifact import check
from gradood.bench._demo import CLASSES, load_digits, one_thread, train
from gradood.cli import main
from gradood.data import Preprocess, loader, open_images
from gradood.models import REFERENCES, build, load_weights

DIGITS = Preprocess(**REFERENCES["digits_net"].preprocess)


@pytest.fixture(autouse=True)
def single() -> Iterator[None]:
    """A second thread costs more than it brings, on networks this small."""
    with one_thread():
        yield


def save(x: torch.Tensor, folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, image in enumerate(x):
        pixels = (image[0] * 255).round().numpy().astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04d}.png")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A trained network, and the demo's data as folders of images."""
    root = tmp_path_factory.mktemp("fit")
    digits = load_digits()
    with one_thread():
        model = train(digits, epochs=4)
    save_file(model.state_dict(), root / "net.safetensors")
    changed = {name: value.clone() for name, value in model.state_dict().items()}
    changed["head.bias"][0] += 1e-3
    save_file(changed, root / "other.safetensors")
    x, y = digits.train_x[:240], digits.train_y[:240]
    for label in range(CLASSES):
        save(x[y == label], root / "fit" / str(label))
    save(digits.test_x[:160], root / "held-out")
    save(x[:100], root / "flat")
    return root


@pytest.fixture
def gradood_(place, tmp_path, capsys):
    """Run a command on the model; its exit code, stdout and stderr."""

    def run(command: str, *words: str, weights: str = "net.safetensors") -> tuple[int, str, str]:
        model = ["--model", "digits_net", "--num-classes", str(CLASSES)]
        out = [] if "--out" in words else ["--out", str(tmp_path / "d.safetensors")]
        code = main([command, *model, "--weights", str(place / weights), *out, *words])
        return (code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def fitted(place) -> Path:
    """A detector of three methods, fitted and not calibrated."""
    file = place / "fitted.safetensors"
    words = ["--model", "digits_net", "--weights", str(place / "net.safetensors")]
    chosen = ["--num-classes", str(CLASSES), "--methods", "energy,knn,gaia-z"]
    data = ["--data", str(place / "fit"), "--combine", "fisher", "--out", str(file)]
    assert main(["fit", *words, *chosen, *data]) == 0
    return file


@pytest.fixture
def detector(fitted, tmp_path) -> Path:
    return Path(shutil.copy(fitted, tmp_path / "detector.safetensors"))


def network(place, weights="net.safetensors"):
    return load_weights(build("digits_net", num_classes=CLASSES), place / weights).eval()


def test_fit_writes_a_file_that_scores_as_the_library_does(gradood_, place, tmp_path):
    code, out, err = gradood_(
        *("fit", "--data", str(place / "fit"), "--methods", "energy,near=knn,line"),
        *("--option", "near.k=3", "--option", "line.clip=auto"),
    )
    assert (code, err) == (0, "")
    assert f"wrote       {tmp_path / 'd.safetensors'} (" in out
    assert f"fitted on   240 images of {place / 'fit'}, with labels\n" in out
    assert "detectors   energy, near, line\n" in out
    assert "until gradood calibrate" in out
    loaded = gradood.load(tmp_path / "d.safetensors", network(place))
    assert loaded.detectors["near"].options()["k"] == 3
    assert Preprocess(**loaded.preprocess) == DIGITS
    data = loader(open_images(place / "fit", DIGITS), batch_size=128)
    knn = gradood.KNN(k=3)
    own = gradood.Monitor(
        network(place), {"energy": "energy", "near": knn, "line": gradood.LINe(clip="auto")}
    ).fit(data)
    x = next(iter(loader(open_images(place / "held-out", DIGITS))))
    for name, scores in own.score(x).items():
        assert torch.equal(loaded.score(x)[name], scores)


def test_fit_as_json(gradood_, place, tmp_path):
    code, out, _ = gradood_(
        *("fit", "--data", str(place / "fit"), "--methods", "msp,knn", "--json"),
        *("--combine", "min", "--crop", "6,8", "--interpolation", "bicubic"),
    )
    found = json.loads(out, parse_constant=pytest.fail)
    assert code == 0
    assert found["sha256"] == check(tmp_path / "d.safetensors").sha256
    assert found["combine"] == "min" and found["calibration"] is None
    assert list(found["detectors"]) == ["msp", "knn"]
    assert found["fit"]["n"] == 240
    assert found["subject"]["preprocess"]["crop"] == [6, 8]
    preprocess = dict(check(tmp_path / "d.safetensors").manifest.preprocess or {})
    options = {**asdict(DIGITS), "crop": (6, 8), "interpolation": "bicubic"}
    assert Preprocess(**preprocess) == Preprocess(**options)


def test_methods_that_cannot_run_are_left_out_unless_named(gradood_, place):
    words = ("fit", "--data", str(place / "flat"))
    code, out, err = gradood_(*words, "--methods", "all", "--json")
    assert code == 0
    assert "left out line: it learns from class labels, and the fit data has none.\n" in err
    found = json.loads(out)
    assert "line" in found["left_out"] and "knn" in found["detectors"]
    code, out, err = gradood_(*words, "--methods", "line", "--force")
    assert (code, out) == (2, "")
    assert "line cannot be run: it learns from class labels" in err


def test_fit_replaces_no_file_unless_forced(gradood_, place, detector):
    words = ("fit", "--data", str(place / "fit"), "--methods", "msp", "--out", str(detector))
    before = detector.read_bytes()
    code, out, err = gradood_(*words)
    assert (code, out) == (2, "") and "is there already; name another, or give --force" in err
    assert detector.read_bytes() == before
    code, out, _ = gradood_(*words, "--force")
    assert code == 0 and "fitted on   nothing, as these methods do not learn\n" in out
    assert [record.name for record in check(detector).manifest.detectors] == ["msp"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--methods", "enrgy"], "no detector 'enrgy'; did you mean 'energy'"),
        (["--option", "energy.T=2", "--methods", "energy"], "energy has no option 'T'"),
        (["--combine", "fischer"], "combine='fischer'; did you mean 'fisher'?"),
        (["--combine", "fisher", "--methods", "msp"], "combine='fisher' with one detector"),
        (["--interpolation", "cubic"], "interpolation is 'cubic'; expected 'bilinear'"),
        (["--resize", "8,8,8"], "resize is (8, 8, 8); expected pixels"),
        (["--out", "absent/d.safetensors"], "its folder does not exist"),
        (["--out", "."], "is a folder; name a file"),
        (["--data", "absent"], "'absent' does not exist"),
        (["--pretrained"], "--pretrained and --weights were both given"),
    ],
)
def test_what_is_wrong_with_a_fit_exits_2(gradood_, place, words, said):
    code, out, err = gradood_("fit", "--data", str(place / "fit"), *words)
    assert (code, out) == (2, "")
    assert said in err and err.count("\n") == 1


def test_calibrate_in_place_decides_as_the_library_does(gradood_, place, detector):
    words = ("calibrate", "--detector", str(detector), "--out", str(detector))
    code, out, err = gradood_(*words, "--data", str(place / "held-out"), "--fpr", "0.1")
    assert (code, err) == (0, "")
    assert "promise     a false-alarm rate of at most 10 %\n" in out
    assert f"calibrated  on 160 images of {place / 'held-out'}\n" in out
    scale = "53 of the calibration images bring the scores to one scale, 107 set the threshold"
    assert f"combined    fisher: {scale}\n" in out
    data = loader(open_images(place / "held-out", DIGITS), batch_size=128)
    own = gradood.Monitor(network(place), ["energy", "knn", "gaia-z"], combine="fisher")
    own.fit(loader(open_images(place / "fit", DIGITS), batch_size=128)).calibrate(data, fpr=0.1)
    x = torch.rand(40, 1, 8, 8)
    expected, found = own.predict(x), gradood.load(detector, network(place)).predict(x)
    assert torch.equal(found.p_value, expected.p_value)
    assert torch.equal(found.is_ood, expected.is_ood) and bool(found.is_ood.any())
    assert torch.equal(found["knn"].is_ood, expected["knn"].is_ood)


def test_calibrate_as_json_with_a_promise_per_class(gradood_, place, detector, tmp_path):
    words = ("calibrate", "--detector", str(detector), "--data", str(place / "held-out"))
    code, out, _ = gradood_(*words, "--mode", "pac", "--confidence", "0.9", "--per-class", "--json")
    assert code == 0
    found = json.loads(out, parse_constant=pytest.fail)
    record = found["calibration"]["detectors"]["energy"]
    assert record["promise"] == {"fpr": 0.05, "mode": "pac", "confidence": 0.9}
    assert record["per_class"] is True and record["samples"] == 160
    assert found["data"]["n"] == 160 and found["overrides"] == []
    assert check(detector).manifest.calibration is None
    assert found["sha256"] == check(tmp_path / "d.safetensors").sha256


def test_data_that_was_fitted_on_is_refused_unless_there_is_a_reason(gradood_, place, detector):
    words = ("calibrate", "--detector", str(detector), "--data", str(place / "fit"))
    code, out, err = gradood_(*words)
    assert (code, out) == (2, "") and "calibration samples were also fitted on" in err
    code, out, _ = gradood_(*words, "--allow-overlap", "only a test", "--json")
    assert code == 0 and json.loads(out)["overrides"] == ["only a test"]


def test_another_model_is_refused_unless_there_is_a_reason(gradood_, place, detector):
    words = ("calibrate", "--detector", str(detector), "--data", str(place / "held-out"))
    code, out, err = gradood_(*words, weights="other.safetensors")
    assert (code, out) == (3, "") and "head.bias" in err
    code, out, _ = gradood_(*words, "--override", "tuned", weights="other.safetensors")
    assert code == 0 and "overridden  tuned\n" in out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--mode", "pack"], 2, "mode='pack'; expected 'marginal' or 'pac'"),
        (["--fpr", "5"], 2, "fpr=5.0; expected a number between 0 and 1"),
        (["--fpr", "0.001"], 2, "999"),
        (["--detector", "absent"], 2, "no saved detector at 'absent'"),
    ],
)
def test_what_is_wrong_with_a_calibration(gradood_, place, detector, words, code, said):
    given = ["--detector", str(detector), "--data", str(place / "held-out"), *words]
    found, out, err = gradood_("calibrate", *given)
    assert (found, out) == (code, "")
    assert said in err and err.count("\n") == 1


def test_a_damaged_detector_exits_3_before_the_model_is_built(gradood_, place, detector):
    raw = bytearray(detector.read_bytes())
    raw[-100] ^= 1
    detector.write_bytes(raw)
    words = ("calibrate", "--detector", str(detector), "--data", str(place / "held-out"))
    code, out, err = gradood_(*words, weights="absent.safetensors")
    assert (code, out) == (3, "") and err.startswith("error: ")


def test_calibrate_replaces_no_other_file_unless_forced(gradood_, place, detector, tmp_path):
    (tmp_path / "d.safetensors").write_bytes(b"precious")
    words = ("calibrate", "--detector", str(detector), "--data", str(place / "held-out"))
    code, _, err = gradood_(*words)
    assert code == 2 and "is there already" in err
    assert (tmp_path / "d.safetensors").read_bytes() == b"precious"
    assert gradood_(*words, "--force")[0] == 0
    assert check(tmp_path / "d.safetensors").manifest.calibration


def test_help_loads_no_torch_and_both_have_json():
    program = (
        "import sys\n"
        "from gradood.cli import main\n"
        "assert [main(['fit', '--help']), main(['calibrate', '--help'])] == [0, 0]\n"
        "print(sorted(sys.modules.keys() & {'torch', 'PIL', 'numpy', 'pyarrow'}))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(gradood.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stdout.count("--json") == 2


# -- without methods: a guard ---------------------------------------------------------------------


def test_fit_without_methods_makes_a_guard(gradood_, place, tmp_path):
    file = tmp_path / "guard.safetensors"
    code, out, err = gradood_("fit", "--data", str(place / "held-out"), "--out", str(file))
    assert code == 0, err
    assert "must be images that the network was not trained on" in err
    assert "detectors   " in out and "calibrated  on " in out
    model = load_weights(build("digits_net", num_classes=CLASSES), place / "net.safetensors")
    guard = gradood.load(file, model)
    assert isinstance(guard, gradood.Guard) and guard.fpr == 0.05
    images = open_images(place / "held-out", DIGITS, labeled=False)
    own = gradood.guard(model, loader(images))
    x = torch.stack([images[k] for k in range(40)])
    assert torch.equal(guard(x), own(x))
    code, out, _ = gradood_(
        *("calibrate", "--detector", str(file), "--data", str(place / "held-out")),
        *("--fpr", "0.2", "--force", "--allow-overlap", "a test", "--out", str(file)),
    )
    assert code == 0 and isinstance(gradood.load(file, model), gradood.Guard)


def test_a_guard_with_training_images(gradood_, place, tmp_path):
    code, out, err = gradood_(
        *("fit", "--data", str(place / "held-out"), "--training", str(place / "fit")),
        *("--fpr", "0.1", "--pac", "--json"),
    )
    assert code == 0, err
    found = json.loads(out)
    assert found["guard"]["fitted"] == 0 and found["guard"]["known"] == 160
    assert found["training"]["n"] == 240
    assert found["calibration"]["combined"]["promise"]["fpr"] == 0.1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--methods", "energy", "--fpr", "0.1"], "--fpr is of a guard"),
        (["--combine", "fisher"], "--combine was given without --methods"),
        (["--option", "knn.k=3"], "--option was given without --methods"),
        (["--fpr", "7"], "fpr=7.0; expected a number between 0 and 1"),
        (["--methods", "energy", "--pac"], "--pac is of a guard"),
    ],
)
def test_options_of_a_guard_that_cannot_be_meant(gradood_, place, words, said):
    code, out, err = gradood_("fit", "--data", str(place / "held-out"), *words)
    assert (code, out) == (2, "") and said in err


@pytest.fixture(scope="module")
def halves(place) -> tuple[Path, Path]:
    """Two folders that are the fit images together."""
    for number, image in enumerate(sorted((place / "fit").rglob("*.png"))):
        half = place / f"half-{number % 2}" / image.parent.name
        half.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, half / f"{number:04d}.png")
    return place / "half-0", place / "half-1"


@pytest.fixture(scope="module")
def kept(place, halves) -> tuple[Path, Path, str]:
    """A detector of half the images, its kept fit, and what was printed."""
    file, partials = place / "half.safetensors", place / "half-partials.safetensors"
    model = ["--model", "digits_net", "--num-classes", str(CLASSES)]
    model += ["--weights", str(place / "net.safetensors"), "--methods", "knn,mahalanobis,react"]
    where = ["--data", str(halves[0]), "--out", str(file), "--keep-partials", str(partials)]
    with one_thread():
        code, out = _printed(["fit", *model, *where])
    assert code == 0
    return file, partials, out


def _printed(words: list[str]) -> tuple[int, str]:
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as out:
        return main(words), out.getvalue()


def test_a_kept_fit_says_its_size_and_is_no_detector(kept, gradood_):
    _, partials, out = kept
    assert f"{partials.stat().st_size:,} bytes" in out and "kept fit" in out
    code, _, err = gradood_("calibrate", "--detector", str(partials), "--data", "x")
    assert code == 3 and "partials of a fit, and no detector: gradood fit --merge" in err


def test_a_merged_fit_is_a_fit_over_both_ranges(kept, halves, place, gradood_, tmp_path):
    file, partials, _ = kept
    more = tmp_path / "both.safetensors"
    words = ["--merge", str(partials), "--detector", str(file), "--data", str(halves[1])]
    code, out, err = gradood_("fit", *words, "--keep-partials", str(more))
    assert code == 0, err
    assert "240 images: 120 of" in out and "calibrated  no: what was promised before" in out
    model = build("digits_net", num_classes=CLASSES).eval()
    load_weights(model, place / "net.safetensors")
    merged = gradood.load(tmp_path / "d.safetensors", model)
    whole = gradood.Monitor(model, ["knn", "mahalanobis", "react"], progress=False)
    first, second = (
        whole.accumulate(loader(open_images(str(half), DIGITS), batch_size=128)) for half in halves
    )
    whole.finish(whole.merge(first, second))
    for name, state in whole.states.items():
        for key, tensor in state.items():
            assert torch.equal(merged.states[name][key], tensor), f"{name}.{key}"
    code, _, err = gradood_(
        *("fit", "--merge", str(more), "--detector", str(tmp_path / "d.safetensors")),
        *("--data", str(halves[0]), "--out", str(tmp_path / "again.safetensors")),
    )
    assert code == 2 and "120 of the 120 added samples are in the fit already" in err


def test_a_merge_that_cannot_be_meant_is_refused(kept, fitted, halves, gradood_, tmp_path):
    file, partials, _ = kept
    data = ["--data", str(halves[1])]
    code, _, err = gradood_("fit", "--merge", str(partials), *data)
    assert code == 2 and "--merge and --detector go together" in err
    both = ["--merge", str(partials), "--detector", str(file), *data]
    code, _, err = gradood_("fit", *both, "--methods", "knn")
    assert code == 2 and "leave --methods" in err
    code, _, err = gradood_("fit", *data, "--keep-partials", str(tmp_path / "p"))
    assert code == 2 and "--keep-partials is of a fit with --methods" in err
    code, _, err = gradood_("fit", "--merge", str(partials), "--detector", str(fitted), *data)
    assert code == 2 and "is of the detectors" in err
    code, _, err = gradood_("fit", "--merge", str(file), "--detector", str(file), *data)
    assert code == 3 and "without the partials of its fit" in err
    code, _, err = gradood_("fit", *both, weights="other.safetensors")
    assert code == 3
    for words in (["--out", str(partials)], ["--keep-partials", str(file)]):
        code, _, err = gradood_("fit", *both, *words, "--force")
        assert code == 2 and "name one file, which would be lost" in err
    damaged = tmp_path / "damaged.safetensors"
    content = bytearray(partials.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    both[1] = str(damaged)
    code, _, err = gradood_("fit", *both)
    assert code == 3 and "damaged" in err
