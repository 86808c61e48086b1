"""Folders of a detector and its model: what is written, what is loaded, and what is refused."""

import hashlib
import io
import json
import pickletools
import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load, save_file

import gradood.hub
from gradood.artifact import check
from gradood.cli import main
from gradood.errors import ArtifactError, ConfigError, DataError, ModelMismatchError
from gradood.models import build


def rewrite(package, **changes):
    """``spec.json`` with other values."""
    spec = json.loads((package / "spec.json").read_text())
    (package / "spec.json").write_text(json.dumps({**spec, **changes}))


def rehash(package, name):
    """The record of a file as it is now, as whoever changed it would write it."""
    content = (package / name).read_bytes()
    files = json.loads((package / "spec.json").read_text())["files"]
    files[name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    rewrite(package, files=files)


def pickles(content):
    """Whether a file's content, or any of what may be inside of it, is a pickle."""
    if content[:2] == b"PK":
        return True
    try:
        return any(op.name == "STOP" for op, _, _ in pickletools.genops(io.BytesIO(content)))
    except Exception:
        return False


def test_a_package_holds_these_files_and_no_pickle(made):
    assert sorted(file.name for file in made.package.iterdir()) == [
        *("README.md", "detector.safetensors", "model.safetensors", "spec.json"),
    ]
    assert not any(pickles(file.read_bytes()) for file in made.package.iterdir())


def test_a_loaded_package_scores_as_the_monitor_did_to_the_bit(made):
    found = gradood.hub.load(made.package)
    before, after = made.monitor.predict(made.x), found.predict(made.x)
    assert torch.equal(before.score, after.score)
    assert torch.equal(before.is_ood, after.is_ood)
    package = gradood.hub.package_of(found)
    assert package.classes == tuple(f"digit {n}" for n in range(10))
    assert (package.repo, package.revision) == (None, None)
    assert package.preprocess().to_dict() == made.monitor.preprocess


def test_a_monitor_that_is_of_no_package_has_none(made):
    with pytest.raises(ConfigError, match="was not loaded from a package"):
        gradood.hub.package_of(made.monitor)


def test_a_guard_is_packed_and_loaded_too(made, tmp_path):
    guard = gradood.guard(made.model, made.x, fpr=0.1, detectors=["energy"])
    guard.save(tmp_path / "guard.safetensors")
    weights = made.folder / "weights.safetensors"
    gradood.hub.pack(tmp_path / "p", tmp_path / "guard.safetensors", "digits_net", weights)
    found = gradood.hub.load(tmp_path / "p")
    assert type(found) is gradood.Guard
    assert torch.equal(found(made.x), guard(made.x))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"extra": 1}, "unknown key 'extra'"),
        ({"model": "models/net.py:make"}, "no path"),
        ({"model": "../net"}, "no path"),
        ({"model": "hf:../../folder"}, "no path"),
        ({"model": "timm:hf-hub:owner/name"}, "no path"),
        ({"model": "C:\\net"}, "no path"),
        ({"format": 2}, "pip install --upgrade"),
        ({"format": 0}, "expected 1"),
        ({"format": "1"}, "format is '1'"),
        ({"classes": ["a"]}, "names 1 classes, and the model has 10"),
        ({"preprocess": None}, "differ in preprocess"),
        ({"files": {}}, "lacks detector.safetensors"),
        ({"num_classes": 10.0}, "num_classes"),
        ({"elsewhere": {}}, "elsewhere is of a model hf:NAME"),
    ],
)
def test_a_spec_that_says_something_odd_is_refused(copied, changes, said):
    rewrite(copied, **changes)
    with pytest.raises(ArtifactError, match=said):
        gradood.hub.load(copied)


def test_a_file_outside_of_the_package_is_refused(copied):
    files = json.loads((copied / "spec.json").read_text())["files"]
    rewrite(copied, files=files | {"../secret": files["model.safetensors"]})
    with pytest.raises(ArtifactError, match=r"names '\.\./secret'"):
        gradood.hub.load(copied)


@pytest.mark.parametrize("text", ["{", '{"format": 1, "format": 1}', "\xff", "[1]", "NaN"])
def test_a_spec_that_is_no_strict_json_is_refused(copied, text):
    (copied / "spec.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtifactError, match=r"spec\.json"):
        gradood.hub.load(copied)


def test_a_folder_without_a_spec_is_no_package(tmp_path):
    with pytest.raises(ConfigError, match="no package"):
        gradood.hub.load(tmp_path)


def test_a_factory_is_imported_only_if_the_caller_trusts_the_package(copied, tmp_path, monkeypatch):
    module = tmp_path / "somebodys_net.py"
    module.write_text(
        "import gradood.models\n\n\ndef make():\n    return gradood.models.build('digits_net')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    rewrite(copied, model="somebodys_net:make")
    with pytest.raises(ConfigError, match="trust='package'"):
        gradood.hub.load(copied)
    assert "somebodys_net" not in sys.modules
    assert gradood.hub.load(copied, trust="package").combine == "fisher"
    with pytest.raises(ConfigError, match="expected None or 'package'"):
        gradood.hub.load(copied, trust=True)
    sys.modules.pop("somebodys_net")


def changed(package):
    """The weights, of which one number is the next larger one."""
    file = package / "model.safetensors"
    state = load(file.read_bytes())
    name = next(name for name, value in state.items() if value.is_floating_point())
    flat = state[name].reshape(-1)
    flat[0] = torch.nextafter(flat[0], torch.tensor(float("inf")))
    save_file(state, file)


def test_other_weights_are_another_model(copied):
    changed(copied)
    with pytest.raises(ModelMismatchError, match="not the file that was packed"):
        gradood.hub.load(copied)
    rehash(copied, "model.safetensors")
    with pytest.raises(ModelMismatchError, match="another model than the one given"):
        gradood.hub.load(copied)


def test_weights_that_are_a_pickle_are_not_read(copied):
    """``torch.load`` would read it, whatever its name."""
    file = copied / "model.safetensors"
    torch.save(load(file.read_bytes()), file)
    assert pickles(file.read_bytes())
    rehash(copied, "model.safetensors")
    with pytest.raises(ArtifactError, match="no safetensors file"):
        gradood.hub.load(copied)


def test_a_damaged_detector_is_refused(copied):
    file = copied / "detector.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match="not the file that was packed"):
        gradood.hub.load(copied)
    rehash(copied, "detector.safetensors")
    with pytest.raises(ArtifactError, match="do not match their SHA-256"):
        gradood.hub.load(copied)
    file.unlink()
    with pytest.raises(DataError, match=r"lacks 'detector\.safetensors'"):
        gradood.hub.load(copied)


def test_a_card_has_front_matter_and_is_told_from_one_that_was_edited(made):
    from gradood.hub._card import is_ours

    text = (made.package / "README.md").read_text()
    front = text.split("---\n")[1]
    assert front.startswith('library_name: gradood\nlicense: "mit"\npipeline_tag: image-')
    assert '- "energy"' in front
    assert "# Out-of-distribution detector" in text and "## How to load this package" in text
    assert is_ours(text) and is_ours(text.replace("\n", "\r\n"))
    assert not is_ours(text.replace("mit", "gpl")) and not is_ours(text + "More.\n")
    assert not is_ours("# My model\n")


def arguments(made, out, *more):
    return [
        *("pack", "--detector", str(made.folder / "detector.safetensors"), "--out", str(out)),
        *("--model", "digits_net", "--weights", str(made.folder / "weights.safetensors"), *more),
    ]


def test_the_command_packs_and_keeps_a_card_that_somebody_wrote(made, tmp_path, capsys):
    out = tmp_path / "package"
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"number {n}" for n in range(10)) + "\n")
    assert main(arguments(made, out, "--class-names", str(names), "--json")) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "digits_net"
    assert gradood.hub.open_package(out).classes[3] == "number 3"
    assert main(arguments(made, out)) == 2
    assert "has a package already" in capsys.readouterr().err
    (out / "README.md").write_text("# Mine\n")
    assert main(arguments(made, out, "--force", "--license", "mit")) == 0
    assert "model.safetensors" in capsys.readouterr().out
    assert (out / "README.md").read_text() == "# Mine\n"
    (out / "notes.txt").write_text("mine")
    assert main(arguments(made, out, "--force")) == 2
    assert "holds other files, such as 'notes.txt'" in capsys.readouterr().err


def test_the_command_refuses_what_does_not_fit(made, tmp_path, capsys):
    assert main(arguments(made, tmp_path / "p", "--class-names", "a,b")) == 3
    assert "names 2 classes" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()
    other = tmp_path / "other.safetensors"
    save_file(build("digits_net").state_dict(), other)
    words = arguments(made, tmp_path / "q")
    words[words.index("--weights") + 1] = str(other)
    assert main(words) == 3
    assert "another model than the one given" in capsys.readouterr().err
    assert not (tmp_path / "q").exists()


def test_a_model_that_is_a_path_or_holds_no_plain_tensors_cannot_be_packed(made, tmp_path):
    from gradood.hub._packing import _refuse_path, _weights

    with pytest.raises(ConfigError, match="cannot be packed"):
        _refuse_path("hf:ä b")

    class Odd(torch.nn.Module):
        def get_extra_state(self):
            return {"a": 1}

    class Loaded:
        model = Odd()

    with pytest.raises(ConfigError, match="no dense tensor"):
        _weights(Loaded())


def test_a_model_of_a_folder_is_named_with_its_hashes_and_not_copied(made, tmp_path, monkeypatch):
    """With a stand-in for Transformers, which need not be installed."""
    from gradood.models import OpenedModel, load_weights, source

    folder = tmp_path / "my-vit"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    weights = folder / "model.safetensors"
    weights.write_bytes((made.folder / "weights.safetensors").read_bytes())

    def opened(name, *, pretrained, num_classes):
        model = load_weights(build("digits_net"), f"{name}/model.safetensors")
        return OpenedModel(model=model, trained=True, weights=(weights,))

    monkeypatch.setitem(source._LIBRARIES, "hf", opened)
    out = tmp_path / "package"
    detector = made.folder / "detector.safetensors"
    package = gradood.hub.pack(out, detector, f"hf:{folder}")
    assert package.spec.model == "hf:my-vit"
    assert sorted(package.spec.elsewhere) == ["config.json", "model.safetensors"]
    assert str(tmp_path) not in (out / "spec.json").read_text()
    assert not (out / "model.safetensors").exists()
    with pytest.raises(ConfigError, match="Give that folder as model_folder"):
        gradood.hub.load(out)
    assert gradood.hub.load(out, model_folder=folder).combine == "fisher"
    (folder / "config.json").write_text("{ }")
    with pytest.raises(ModelMismatchError, match=r"config\.json is not the file"):
        gradood.hub.load(out, model_folder=folder)
    with pytest.raises(ConfigError, match="leave it out"):
        gradood.hub.load(made.package, model_folder=folder)


def test_a_graph_must_be_of_the_detector_that_is_packed(made, tmp_path, monkeypatch):
    """With a stand-in for the graph, whose export takes seconds."""
    import gradood.onnx

    detector, weights = made.folder / "detector.safetensors", made.folder / "weights.safetensors"
    of = check(detector).sha256
    monkeypatch.setattr(
        gradood.onnx, "OnnxJudge", lambda file: SimpleNamespace(record=SimpleNamespace(artifact=of))
    )
    graph = tmp_path / "graph"
    graph.write_bytes(b"a graph")
    details = gradood.hub.Details(onnx=graph)
    package = gradood.hub.pack(tmp_path / "p", detector, "digits_net", weights, details=details)
    assert (package.folder / "net.onnx").read_bytes() == b"a graph"
    assert "net.onnx" in package.spec.files
    of = "0" * 64
    with pytest.raises(ArtifactError, match="graph of another detector"):
        gradood.hub.pack(tmp_path / "q", detector, "digits_net", weights, details=details)


@pytest.mark.parametrize("classes", [list(range(10)), "0123456789", ["\ud800"] * 10, 5])
def test_names_that_are_no_texts_leave_a_package_as_it_was(made, copied, classes):
    before = sorted((file.name, file.read_bytes()) for file in copied.iterdir())
    detector, weights = (made.folder / f"{name}.safetensors" for name in ("detector", "weights"))
    with pytest.raises(ConfigError, match="expected a list of names, one a class"):
        details = gradood.hub.Details(classes=classes, force=True)
        gradood.hub.pack(copied, detector, "digits_net", weights, details=details)
    assert before == sorted((file.name, file.read_bytes()) for file in copied.iterdir())


def test_devices_and_models_that_cannot_be_are_named(made, tmp_path):
    for device, said in (("bogus", "device='bogus'; expected"), (5, "device=5; expected")):
        with pytest.raises(ConfigError, match=said):
            gradood.hub.load(made.package, device=device)
    if torch.version.cuda is None:
        with pytest.raises(ConfigError, match="device='cuda' is none of this machine"):
            gradood.hub.load(made.package, device="cuda")
    with pytest.raises(ConfigError, match="A package names its model"):
        gradood.hub.pack(tmp_path / "p", made.folder / "detector.safetensors", made.model)
    with pytest.raises(ConfigError, match="detector=a Monitor; expected the file"):
        gradood.hub.pack(tmp_path / "p", made.monitor, "digits_net")
    with pytest.raises(ConfigError, match="5 was not loaded from a package"):
        gradood.hub.package_of(5)
