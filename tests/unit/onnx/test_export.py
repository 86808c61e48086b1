"""One graph from inputs to decisions: parity, refusals, and judging without torch."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import gradood
from gradood.cli import main
from gradood.data import Preprocess
from gradood.errors import ArtifactError, CalibrationError, ConfigError, DataError, ExportError
from gradood.evidence import FEATURES, INPUT_RANGE, KEYS, LOGITS, JacobianNorm, ParameterNorm
from gradood.evidence.requests import Basic
from gradood.models import digits_net
from gradood.onnx import exportable, recalibrate, verify
from gradood.onnx._graph import refusal
from gradood.onnx._pixels import Scaling
from gradood.serve._expected import Expected, numbers
from gradood.serve._refusal import Refusal
from gradood.serve._subject import Subject, load_subject
from gradood.taps import Site

onnxruntime = pytest.importorskip("onnxruntime", reason='needs pip install "gradood[onnx]"')
pytest.importorskip("onnxscript", reason='needs pip install "gradood[onnx]"')


def drawn(rows, seed):
    return torch.randn(rows, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def classifier():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    ).eval()


def calibrated(detectors, **options):
    monitor = gradood.Monitor(classifier(), detectors, progress=False, **options)
    x = drawn(200, 1)
    with torch.no_grad():
        labels = monitor.model(x).argmax(1)
    return monitor.fit([(x, labels)]).calibrate(drawn(300, 2), fpr=0.1)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A combination of a learner, a closed form and one that reads inner layers."""
    monitor = calibrated(["energy", "knn", "gaia-z"], combine="fisher")
    path = tmp_path_factory.mktemp("graph") / "net.onnx"
    parity = gradood.export(monitor, path, example=drawn(40, 3))
    return monitor, path, parity


@pytest.mark.slow
def test_a_graph_decides_as_its_monitor(exported):
    monitor, path, parity = exported
    assert parity.holds
    assert parity.rows == 43
    x = drawn(30, 4) * 3
    x[4, 0, 0, 0] = torch.nan
    x[9, 0, 0, 0] = torch.inf
    own = monitor.predict(x)
    found = gradood.OnnxJudge(path).predict(x.numpy())
    assert found.label.tolist() == own.label.tolist()
    assert found.combined.is_ood.tolist() == own.combined.is_ood.tolist()
    assert found.combined.status == own.combined.status
    assert found.combined.status[4] == found.combined.status[9] == "nonfinite_input"
    for name in own:
        assert found[name].is_ood.tolist() == own[name].is_ood.tolist()
        np.testing.assert_allclose(found[name].score, own[name].score, rtol=1e-4)
        np.testing.assert_allclose(found[name].p_value, own[name].p_value, atol=4 / 301)


@pytest.mark.slow
def test_the_judge_loads_no_torch(exported):
    _, path, _ = exported
    program = (
        "import sys, numpy, gradood; judge = gradood.OnnxJudge(sys.argv[1]); "
        "found = judge.predict(numpy.zeros((2, 3, 8, 8), 'float32')); "
        "assert len(found.combined) == 2; print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.slow
def test_what_a_graph_takes_is_checked(exported):
    judge = gradood.OnnxJudge(exported[1])
    assert judge.inputs[0].shape == (-1, 3, 8, 8)
    with pytest.raises(DataError, match=r"expected \(N, 3, 8, 8\) of float32"):
        judge.predict(np.zeros((2, 3, 8, 8)))
    with pytest.raises(DataError, match="takes 1"):
        judge.predict(np.zeros(1), np.zeros(1))


@pytest.mark.slow
def test_a_changed_weight_fails(exported, tmp_path):
    import onnx

    monitor, path, _ = exported
    assert verify(path, monitor, example=drawn(20, 5)).holds
    graph = onnx.load(path)
    weight = next(w for w in graph.graph.initializer if w.data_type == 1 and len(w.dims) == 4)
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[0] += 0.01 * np.abs(values).max()
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    changed = tmp_path / "changed.onnx"
    onnx.save(graph, changed)
    assert not verify(changed, monitor, example=drawn(20, 5)).holds
    other = calibrated(["energy", "knn", "gaia-z"], combine="fisher")
    other.calibrate(drawn(200, 9))
    with pytest.raises(ExportError, match="export it again"):
        verify(path, other, example=drawn(20, 5))


@pytest.mark.slow
def test_a_head_graph_takes_features_and_logits(tmp_path):
    monitor = calibrated("energy")
    path = tmp_path / "head.onnx"
    assert gradood.export(monitor, path, example=drawn(16, 3), part="head").holds
    judge = gradood.OnnxJudge(path)
    assert [spec.name for spec in judge.inputs] == ["features", "logits"]
    x = drawn(12, 6)
    kept = monitor.predict(x, keep=("features", "logits"))
    found = judge.predict(kept.features.numpy(), kept.logits.numpy()).main
    assert found.is_ood.tolist() == kept.is_ood.tolist()


def test_what_cannot_be_in_a_graph_is_refused_with_the_reason(tmp_path):
    path = tmp_path / "net.onnx"
    monitor = calibrated(["energy", "odin"], combine="min")
    with pytest.raises(ExportError, match="odin perturbs the input along a gradient"):
        gradood.export(monitor, path, example=drawn(8, 3))
    layers = calibrated("gaia-z")
    with pytest.raises(ExportError, match="begins at the features"):
        gradood.export(layers, path, example=drawn(8, 3), part="head")
    with pytest.raises(ConfigError, match="only="):
        gradood.export(monitor, path, example=drawn(8, 3), only=["knn"])
    with pytest.raises(DataError, match="NaN"):
        gradood.export(layers, path, example=drawn(8, 3).fill_(torch.nan))
    fresh = gradood.Monitor(classifier(), "energy", progress=False)
    fresh.score(drawn(4, 3))
    with pytest.raises(CalibrationError, match="calibrate"):
        gradood.export(fresh, path, example=drawn(8, 3))
    assert not path.exists()


def test_a_file_without_a_record_is_refused(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(ArtifactError, match="export it again"):
        gradood.OnnxJudge(path)


def record_with(exported, tmp_path, change):
    """A graph whose record was edited."""
    import onnx

    proto = onnx.load(exported[1])
    (entry,) = [e for e in proto.metadata_props if e.key == "gradood"]
    plain = json.loads(entry.value)
    entry.value = json.dumps(plain | change) if isinstance(change, dict) else change
    onnx.save(proto, tmp_path / "edited.onnx")
    return tmp_path / "edited.onnx"


INPUT = {"name": "input", "dtype": "float32", "shape": [-1, 3, 8, 8]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("[" * 100_000, "malformed"),
        ("[]", "it is no object"),
        ({"format": 2}, "format 2"),
        ({"detectors": "energy"}, "expected a list"),
        ({"detectors": []}, "its detectors"),
        ({"detectors": ["energy", "knn", "gaia-z", "msp"]}, "it lacks the output msp"),
        ({"bare": True}, "its detectors"),
        ({"outputs": []}, "it lacks the output"),
        ({"overrides": "abc"}, "expected a list"),
        ({"part": "tail"}, "choose from head"),
        ({"inputs": []}, "takes other inputs"),
        ({"inputs": [INPUT | {"name": "x"}]}, "takes other inputs"),
        ({"inputs": [INPUT | {"dtype": "float64"}]}, "takes other inputs"),
        ({"inputs": [INPUT | {"shape": [-1, 3, 8, 7]}]}, "takes other inputs"),
        ({"inputs": [INPUT | {"shape": "x"}]}, "expected a list"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_record_that_was_edited_is_refused(exported, tmp_path, change, said):
    with pytest.raises(ArtifactError, match=said):
        gradood.OnnxJudge(record_with(exported, tmp_path, change)).predict(drawn(2, 5).numpy())


@pytest.mark.slow
def test_a_record_as_it_was_is_read(exported, tmp_path):
    path = record_with(exported, tmp_path, {"inputs": [INPUT]})
    assert gradood.OnnxJudge(path, threads=1).record == gradood.OnnxJudge(exported[1]).record
    for wrong in ({"path": None}, {"path": path, "threads": "a"}, {"path": path, "threads": -1}):
        with pytest.raises(ConfigError, match="expected"):
            gradood.OnnxJudge(**wrong)


@pytest.mark.slow
def test_the_shell_says_what_a_graph_is(exported, capsys):
    from gradood.cli import main

    assert main(["verify", str(exported[1])]) == 0
    assert "energy, knn, gaia-z; fisher" in capsys.readouterr().out
    assert main(["verify", str(exported[1]), "--model", "resnet20"]) == 2


@pytest.mark.slow
def test_the_shell_compares_a_graph_of_a_network_of_any_number_of_classes(tmp_path, capsys):
    """A model made with --num-classes could be exported, and then not be named to `verify`."""
    import onnx
    from PIL import Image

    from gradood.cli import main

    torch.manual_seed(0)
    model = digits_net(7).eval()
    torch.save(model.state_dict(), tmp_path / "w.pt")
    monitor = gradood.Monitor(model, "energy", preprocess={"mode": "L"})
    monitor.calibrate(torch.rand(60, 1, 8, 8), fpr=0.1).save(tmp_path / "d.safetensors")
    (tmp_path / "images").mkdir()
    for row in range(12):
        pixels = np.random.default_rng(row).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{row}.png")
    words = ["--model", "digits_net", "--num-classes", "7", "--weights", str(tmp_path / "w.pt")]
    words += ["--detector", str(tmp_path / "d.safetensors"), "--check", str(tmp_path / "images")]
    graph = tmp_path / "g.onnx"
    assert main(["export", *words, "--out", str(graph)]) == 0
    assert main(["verify", str(graph), *words]) == 0
    changed = onnx.load(graph)
    weight = next(w for w in changed.graph.initializer if len(w.dims) == 4)
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[np.abs(values).argmax()] *= 1.01
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(changed, tmp_path / "changed.onnx")
    assert main(["verify", str(tmp_path / "changed.onnx"), *words]) == 1
    assert "does not decide as" in capsys.readouterr().err


def test_whatever_is_no_layer_features_or_logits_is_in_no_graph():
    """A new kind of reading is refused by name until a graph can hold it."""
    site = Site("0", "output", 0)
    jacobian = JacobianNorm((site, site), None, 1)
    readings = {
        "derivatives": jacobian,
        "parameters": ParameterNorm(("0.weight",), 1.0, 1.0),
        "keys": KEYS,
        "range": INPUT_RANGE,
        "unknown": Basic("unknown"),
    }
    for words, read in readings.items():
        assert words in str(refusal((LOGITS, FEATURES, read)))
    assert refusal((LOGITS, FEATURES)) is None


@pytest.mark.slow
def test_a_folder_is_scored_by_the_graph_alone(exported, tmp_path, capsys):
    image = pytest.importorskip("PIL.Image")
    parquet = pytest.importorskip("pyarrow.parquet")
    monitor, path, _ = exported
    (tmp_path / "in").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 9, 11, 3), dtype=np.uint8)
    for row, own in enumerate(pixels):
        image.fromarray(own).save(tmp_path / "in" / f"{row:02}.png")
    (tmp_path / "in" / "x.png").write_bytes(b"none")
    given = ["score", str(tmp_path / "in"), "--onnx", str(path), "--out", str(tmp_path / "out")]
    assert main(given) == 2
    assert "does not say how images" in capsys.readouterr().err
    given += ["--resize", "8,8", "--batch-size", "8", "--shard-rows", "12", "--workers", "0"]
    assert main([*given, "--model", "resnet20"]) == 2
    assert "leave out --model" in capsys.readouterr().err
    assert main(given) == 4
    rows = parquet.read_table(tmp_path / "out").to_pylist()
    preprocess = Preprocess(resize=(8, 8))
    own = monitor.predict(torch.stack([preprocess(image.fromarray(p)) for p in pixels]))
    assert [row["is_ood"] for row in rows[:-1]] == own.combined.is_ood.tolist()
    assert [row["label"] for row in rows[:-1]] == own.label.tolist()
    for name in own:
        scores = [row[f"{name}.score"] for row in rows[:-1]]
        np.testing.assert_allclose(scores, own[name].score, rtol=1e-4)
    assert rows[-1]["status"] != "ok" and rows[-1]["is_ood"]
    assert {row["artifact"] for row in rows} == {gradood.OnnxJudge(path).sha256}
    assert main(given) == 4  # Nothing is left to do.
    assert "20" in capsys.readouterr().out


@pytest.fixture(scope="module")
def from_pixels(tmp_path_factory):
    """A graph that scales and normalizes, of a monitor that says how."""
    how = Preprocess(resize=(8, 8), mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    monitor = calibrated("energy", preprocess=how.to_dict())
    path = tmp_path_factory.mktemp("pixels") / "net.onnx"
    pixels = np.random.default_rng(1).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    parity = gradood.export(monitor, path, example=torch.from_numpy(pixels), part="pixels")
    return monitor, path, parity, how


@pytest.mark.slow
def test_a_graph_of_pixels_decides_as_its_monitor_does_of_images(from_pixels):
    image = pytest.importorskip("PIL.Image")
    monitor, path, parity, how = from_pixels
    assert parity.holds and parity.rows == 60
    judge = gradood.OnnxJudge(path)
    assert [(s.name, s.dtype, s.shape) for s in judge.inputs] == [("input", "uint8", (-1, 8, 8, 3))]
    assert judge.record.part == "pixels"
    drawn_pixels = np.random.default_rng(2).integers(0, 256, (50, 9, 11, 3), dtype=np.uint8)
    images = [image.fromarray(one) for one in drawn_pixels]
    own = monitor.predict(torch.stack([how(one) for one in images]))
    found = judge.predict(torch.stack([how.pixels(one) for one in images]).numpy())
    assert found.main.is_ood.tolist() == own.is_ood.tolist()
    assert found.label.tolist() == own.label.tolist()
    np.testing.assert_allclose(found.main.score, own.score, rtol=1e-5)
    with pytest.raises(DataError, match=r"expected \(N, 8, 8, 3\) of uint8"):
        judge.predict(np.zeros((2, 8, 8, 3), np.float32))


def test_pixels_are_scaled_to_the_bits_of_the_preprocessing():
    image = pytest.importorskip("PIL.Image")
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for mode, options in (
        ("L", {"mean": (0.1307,), "std": (0.3081,)}),
        ("L", {"mean": (0.1307,)}),
        ("RGB", {"std": (0.229, 0.224, 0.225)}),
        ("RGB", {}),
    ):
        how, own = Preprocess(mode=mode, **options), image.fromarray(levels)
        assert torch.equal(Scaling.of(how.to_dict())(how.pixels(own)[None])[0], how(own))


@pytest.mark.slow
def test_pixels_of_another_kind_are_refused(from_pixels, tmp_path):
    monitor, path, _, _ = from_pixels
    with pytest.raises(DataError, match=r"expected \(batch, height, width, 3\) of torch.uint8"):
        gradood.export(monitor, tmp_path / "a.onnx", example=drawn(8, 1), part="pixels")
    plain = calibrated("energy")
    pixels = torch.zeros(8, 8, 8, 3, dtype=torch.uint8)
    with pytest.raises(ConfigError, match="how pixels become inputs"):
        gradood.export(plain, tmp_path / "a.onnx", example=pixels, part="pixels")
    assert not (tmp_path / "a.onnx").exists()
    assert verify(path, monitor, example=pixels + 7).holds


@pytest.mark.slow
def test_a_graph_of_pixels_scores_and_serves_images(from_pixels, tmp_path):
    image = pytest.importorskip("PIL.Image")
    parquet = pytest.importorskip("pyarrow.parquet")
    monitor, path, _, how = from_pixels
    (tmp_path / "in").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 9, 11, 3), dtype=np.uint8)
    for row, own in enumerate(pixels):
        image.fromarray(own).save(tmp_path / "in" / f"{row:02}.png")
    given = ["score", str(tmp_path / "in"), "--onnx", str(path), "--out", str(tmp_path / "out")]
    assert main([*given, "--workers", "0"]) == 0
    rows = parquet.read_table(tmp_path / "out").to_pylist()
    own = monitor.predict(torch.stack([how(image.fromarray(p)) for p in pixels]))
    assert [row["is_ood"] for row in rows] == own.is_ood.tolist()
    loaded = load_subject(Subject(detector=None, onnx=str(path)))
    about = loaded.description()
    assert (about["datatype"], about["shape"], about["images"]) == ("UINT8", [8, 8, 3], True)
    files = [(tmp_path / "in" / f"{row:02}.png").read_bytes() for row in range(20)]
    assert loaded.images(files)["is_ood"][1].tolist() == own.is_ood.tolist()
    sized = np.stack([how.pixels(image.fromarray(p)).numpy() for p in pixels])
    expected = Expected("input", "UINT8", 64)
    for body in (
        expected.raw(memoryview(sized.tobytes()), sized.shape),
        numbers(sized.tolist(), sized.shape, "UINT8"),
    ):
        x = np.frombuffer(body, np.uint8).reshape(sized.shape)
        assert loaded.tensors(x)["is_ood"][1].tolist() == own.is_ood.tolist()
    for wrong in ([300], [-1], [0.5]):
        with pytest.raises(Refusal):
            numbers(wrong, [1], "UINT8")


def test_score_without_detector_or_graph_says_what_to_give(tmp_path, capsys):
    assert main(["score", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "missing option '--detector'" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:gram says little here")
def test_the_column_of_methods_is_what_plans_say():
    known = {method.name: method.exportable for method in gradood.methods()}
    monitor = gradood.Monitor(classifier(), list(known), skip_unusable=True, progress=False)
    x = drawn(60, 1)
    with torch.no_grad():
        monitor.fit([(x, monitor.model(x).argmax(1))])
    for part in ("model", "head"):
        for name, why in exportable(monitor, part=part).items():
            assert (part in known[name]) == (not why), (name, part, why)
    assert len(monitor.left_out) < 12


def quantized(path, out, *, dynamic):
    """A graph with its convolution in whole numbers, by the tools of onnxruntime."""
    tools = pytest.importorskip("onnxruntime.quantization")
    if dynamic:
        return tools.quantize_dynamic(path, out, op_types_to_quantize=["Conv"])

    class Ranges(tools.CalibrationDataReader):
        def __init__(self):
            self.left = [{"input": drawn(32, 9).numpy()}]

        def get_next(self):
            return self.left.pop() if self.left else None

    return tools.quantize_static(path, out, Ranges(), op_types_to_quantize=["Conv"])


@pytest.mark.slow
def test_a_quantized_graph_promises_nothing_until_it_is_calibrated_again(exported, tmp_path):
    _, path, _ = exported
    file, out = tmp_path / "int8.onnx", tmp_path / "again.onnx"
    quantized(path, file, dynamic=False)
    with pytest.raises(ArtifactError, match=r"quantized after its export.*recalibrate"):
        gradood.OnnxJudge(file)
    parity = recalibrate(file, out, drawn(300, 2), fpr=0.1)
    assert parity.holds
    judge = gradood.OnnxJudge(out)
    assert "300 inputs after it was quantized" in judge.record.quantized
    assert "10 %" in judge.record.promise and judge.record.artifact == ""
    x = drawn(2000, 77)
    x[3, 0, 0, 0] = torch.nan
    found = judge.predict(x.numpy())
    assert found.combined.status[3] == "nonfinite_input" and found.combined.is_ood[3]
    for result in (found.combined, *found.values()):
        assert 0.04 < result.is_ood.mean() < 0.14
    with pytest.raises(DataError, match="expected"):
        recalibrate(file, tmp_path / "few.onnx", drawn(50, 2)[:, :, :4], fpr=0.1)
    with pytest.raises(CalibrationError):
        recalibrate(file, tmp_path / "few.onnx", drawn(5, 2), fpr=0.1)
    assert not (tmp_path / "few.onnx").exists()


@pytest.mark.slow
def test_a_dynamically_quantized_graph_is_refused(exported, tmp_path):
    file = tmp_path / "int8.onnx"
    quantized(exported[1], file, dynamic=True)
    with pytest.raises(ExportError, match="depends on the others of its batch"):
        recalibrate(file, tmp_path / "out.onnx", drawn(300, 2), fpr=0.1)
    assert not (tmp_path / "out.onnx").exists()
