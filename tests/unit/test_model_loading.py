"""Models of timm, torchvision and Transformers: what is asked of the libraries.

Fakes stand in where they are not installed; where they are, their own transforms are the oracle.
"""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from gradood.cli import main
from gradood.data import Preprocess
from gradood.errors import ConfigError, DataError
from gradood.models import build, open_model
from gradood.models._libraries import library, torchvision_inputs
from gradood.models._load import load_model

STATISTICS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALF = (0.5, 0.5, 0.5)
VIT = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": 224, "width": 224},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 0.00392156862745098,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def timm_config(**changes) -> dict:
    plain = {"input_size": (3, 224, 224), "interpolation": "bicubic", "crop_pct": 0.95}
    return {**plain, "crop_mode": "center", **STATISTICS, **changes}


class ImageClassification:
    """What torchvision's preset of that name holds."""

    def __init__(self, resize=256, interpolation="bilinear"):
        self.resize_size, self.crop_size = [resize], [224]
        self.mean, self.std = list(STATISTICS["mean"]), list(STATISTICS["std"])
        self.interpolation = SimpleNamespace(value=interpolation)


V1, V2 = ImageClassification(), ImageClassification(resize=232, interpolation="bicubic")


def needs(name: str) -> ModuleType:
    """The library, or a skip that says why; a torchvision of another build raises RuntimeError."""
    try:
        return importlib.import_module(name)
    except Exception as error:
        pytest.skip(f"needs {name}: {type(error).__name__}: {error}")


def picture(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


# ---------------------------------------------------------------- fakes of the libraries


class Net(nn.Module):
    def __init__(self, classes: int, config: dict | None = None) -> None:
        super().__init__()
        self.head = nn.Linear(4, classes)
        self.pretrained_cfg = config or {}


@pytest.fixture
def timm(monkeypatch) -> SimpleNamespace:
    """A library that knows resnet18, and writes down what it was asked."""
    asked = []

    def create_model(name, pretrained=False, num_classes=1000):
        asked.append((name, pretrained, num_classes))
        if name.endswith("offline"):
            raise ConnectionError("no network")
        if name.endswith("broken"):
            raise ValueError("no tag")
        return Net(num_classes, {"num_classes": 1000})

    fake = SimpleNamespace(
        asked=asked,
        is_model=lambda name: name.partition(".")[0] == "resnet18",
        list_models=lambda: ["resnet18"],
        create_model=create_model,
        data=SimpleNamespace(resolve_model_data_config=lambda model: timm_config()),
    )
    monkeypatch.setitem(sys.modules, "timm", fake)
    return fake


def test_timm_makes_random_weights_unless_asked(timm):
    opened = open_model("timm:resnet18.a1_in1k", num_classes=7)
    assert timm.asked == [("resnet18.a1_in1k", False, 7)]
    assert opened.trained is False and opened.shape == (3, 224, 224)
    assert opened.preprocess({"resize": 100})["resize"] == 100
    assert opened.preprocess({})["resize"] == 235
    open_model("timm:resnet18", pretrained=True)
    assert timm.asked[-1] == ("resnet18", True, 1000)


@pytest.mark.parametrize(
    ("spec", "options", "error", "message"),
    [
        ("timm:resnet19", {}, ConfigError, "timm has no model 'resnet19'; did you mean 'resnet18'"),
        ("timm:hf-hub:someone/net", {}, ConfigError, "not in timm's own list"),
        ("timm:someone/net", {}, ConfigError, "not in timm's own list"),
        ("timm:resnet18.broken", {}, ConfigError, r"timm cannot make 'resnet18\.broken' .*no tag"),
        ("timm:resnet18.offline", {"pretrained": True}, OSError, "no network"),
        (
            "timm:resnet18",
            {"pretrained": True, "num_classes": 7},
            ConfigError,
            "for 1000 classes; with 7 the head would be random",
        ),
        ("timm:resnet18", {"depth": 3}, ConfigError, r"was given \['depth'\]; expected at most"),
        ("resnet20", {"pretrained": True}, ConfigError, "'resnet20' fetches no weights; leave out"),
    ],
)
def test_what_is_refused(timm, spec, options, error, message):
    with pytest.raises(error, match=message):
        open_model(spec, **options)


def test_weights_are_needed_and_flags_go_before_the_configuration(timm, tmp_path):
    with pytest.raises(ConfigError, match="the model 'timm:resnet18' is untrained without weights"):
        load_model("timm:resnet18")
    file = tmp_path / "net.safetensors"
    save_file(Net(3).state_dict(), file)
    subject = load_model(
        "timm:resnet18", file, num_classes=3, preprocess={"interpolation": "nearest"}
    )
    assert subject.preprocess == Preprocess(
        resize=235, crop=224, interpolation="nearest", **STATISTICS
    )
    assert subject.to_dict()["weights_sha256"] and not subject.model.training
    with pytest.raises(ConfigError, match="--pretrained and --weights were both given"):
        load_model("timm:resnet18", file, pretrained=True)


def test_a_configuration_that_cannot_be_followed_is_settled_by_flags(timm):
    timm.data.resolve_model_data_config = lambda model: timm_config(crop_mode="border")
    subject = load_model("timm:resnet18", untrained=True, preprocess={"resize": 8})
    with pytest.raises(ConfigError, match=r"'border'.* Or give --resize, --crop, --mean, --std"):
        _ = subject.preprocess
    assert subject.to_dict()["preprocess"] is None
    flags = {"resize": 8, "crop": None, "interpolation": "bicubic", **STATISTICS}
    found = load_model("timm:resnet18", untrained=True, preprocess=flags)
    assert found.preprocess == Preprocess(**flags)


def test_inspect_needs_no_shape_where_the_library_tells_it(timm, capsys):
    timm.create_model = lambda name, pretrained: nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 5))
    timm.data.resolve_model_data_config = lambda model: timm_config(input_size=(3, 8, 8))
    assert main(["inspect", "--model", "timm:resnet18"]) == 0
    assert capsys.readouterr().out.startswith("classes   5\n")


@pytest.fixture
def torchvision(monkeypatch) -> SimpleNamespace:
    """A library with two classifiers, one of them with two sets of weights."""
    asked = []

    class Weights(dict):
        DEFAULT = SimpleNamespace(name="V2", transforms=lambda: V2)

        def __init__(self, *presets):
            named = {f"V{i}": p for i, p in enumerate(presets, 1)}
            made = {n: SimpleNamespace(name=n, transforms=lambda p=p: p) for n, p in named.items()}
            super().__init__(made)
            self.__members__ = made

        def __iter__(self):
            return iter(self.values())

    def get_model(name, weights=None, **options):
        asked.append((name, getattr(weights, "name", None), options))
        return Net(options.get("num_classes", 1000))

    known = {"resnet50": Weights(V1, V2), "googlenet": Weights(V1)}
    models = SimpleNamespace(
        list_models=lambda module: list(known),
        get_model_weights=known.get,
        get_model=get_model,
    )
    fake = SimpleNamespace(asked=asked, models=models)
    monkeypatch.setitem(sys.modules, "torchvision", fake)
    return fake


def test_torchvisions_weights_are_named_for_their_preprocessing_only(torchvision):
    opened = open_model("torchvision:resnet50.V1", num_classes=5)
    assert torchvision.asked == [("resnet50", None, {"num_classes": 5})]
    assert opened.preprocess({})["resize"] == 256 and opened.shape == (3, 224, 224)
    assert open_model("torchvision:resnet50.V2").preprocess({})["resize"] == 232
    with pytest.raises(ConfigError, match=r"resnet50\.V1 has resize 256"):
        open_model("torchvision:resnet50").preprocess({})
    assert torchvision.asked[-1][1] is None


def test_torchvision_fetches_only_what_was_asked(torchvision):
    open_model("torchvision:resnet50.V1", pretrained=True)
    assert torchvision.asked[-1] == ("resnet50", "V1", {})
    opened = open_model("torchvision:resnet50", pretrained=True)
    assert torchvision.asked[-1] == ("resnet50", "V2", {})
    assert opened.trained and opened.preprocess({})["resize"] == 232


def test_inputs_of_googlenet_are_transformed_as_its_weights_expect(torchvision):
    build("torchvision:googlenet")
    assert torchvision.asked[-1] == ("googlenet", None, {"transform_input": True})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("torchvision:resnet5", "torchvision has no classifier 'resnet5'; did you mean 'resnet50'"),
        ("torchvision:resnet50.V3", "resnet50 has no weights 'V3'; choose from V1, V2|did you"),
    ],
)
def test_misspelt_names_of_torchvision(torchvision, spec, message):
    with pytest.raises(ConfigError, match=message):
        open_model(spec)


@pytest.fixture
def transformers(monkeypatch) -> SimpleNamespace:
    """A library that reads any folder, and writes down what it was asked."""
    asked = []
    found = {"missing_keys": set(), "mismatched_keys": set()}
    config = SimpleNamespace(num_labels=3, image_size=8, num_channels=3)

    class Auto:
        def __init__(self, made):
            self.made = made

        def from_pretrained(self, folder, **options):
            asked.append(options)
            return self.made(options)

        def from_config(self, config, **options):
            asked.append(options)
            return Net(config.num_labels)

    logging = SimpleNamespace(
        CRITICAL=50,
        get_verbosity=lambda: 30,
        set_verbosity=lambda level: None,
        is_progress_bar_enabled=lambda: True,
        disable_progress_bar=lambda: None,
        enable_progress_bar=lambda: None,
    )
    fake = SimpleNamespace(
        __version__="5.0.0",
        asked=asked,
        found=found,
        config=config,
        settings=VIT,
        utils=SimpleNamespace(logging=logging),
        AutoConfig=Auto(lambda options: config),
        AutoModelForImageClassification=Auto(lambda options: (Net(3).half(), found)),
        AutoImageProcessor=Auto(lambda options: SimpleNamespace(to_dict=lambda: fake.settings)),
    )
    monkeypatch.setitem(sys.modules, "transformers", fake)
    return fake


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(VIT))
    return tmp_path


def test_a_folder_is_read_locally_without_its_code_or_pickles(transformers, folder):
    subject = load_model(f"hf:{folder}")
    assert subject.preprocess == Preprocess(
        resize=(224, 224), mean=HALF, std=HALF, crop_rounding="down"
    )
    assert [asked["local_files_only"] for asked in transformers.asked] == [True] * 3
    assert [asked["trust_remote_code"] for asked in transformers.asked] == [False] * 3
    assert transformers.asked[1]["use_safetensors"] is True
    assert transformers.asked[2]["backend"] == "pil"
    assert subject.model.head.weight.dtype == torch.float32
    assert subject.weights == (folder / "model.safetensors",)
    assert subject.opened.shape == (3, 8, 8)


def test_a_folder_without_a_processor_leaves_it_to_flags(transformers, folder):
    (folder / "preprocessor_config.json").unlink()
    assert load_model(f"hf:{folder}").preprocess == Preprocess()


def test_a_folder_of_timms_form(transformers, timm, folder):
    timm.data.resolve_data_config = lambda pretrained_cfg: timm_config(**pretrained_cfg)
    transformers.config.pretrained_cfg = {"input_size": (3, 96, 96), "crop_pct": 1.0}
    subject = load_model(f"hf:{folder}")
    assert subject.preprocess.crop == 96 and subject.opened.shape == (3, 96, 96)


def test_a_folder_without_weights_needs_a_file_of_them(transformers, folder, tmp_path):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="is untrained without weights"):
        load_model(f"hf:{folder}")
    torch.save(Net(4).state_dict(), folder / "pytorch_model.bin")
    subject = load_model(f"hf:{folder}", folder / "pytorch_model.bin", num_classes=4)
    assert subject.model.head.out_features == 4


def test_a_folder_in_shards(transformers, folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model-00002-of-00002.safetensors").write_bytes(b"more")
    (folder / "model.safetensors.index.json").write_text("{}")
    assert [file.name[6:11] for file in load_model(f"hf:{folder}").weights] == ["00001", "00002"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"pretrained": True}, ConfigError, "has its weights or not; leave out --pretrained"),
        ({"num_classes": 5}, ConfigError, "has 3 classes, and 5 were asked for"),
    ],
)
def test_what_a_folder_is_not_asked(transformers, folder, options, error, message):
    with pytest.raises(error, match=message):
        open_model(f"hf:{folder}", **options)


def test_a_backbone_without_its_head_is_refused(transformers, folder):
    transformers.found["missing_keys"] = {"classifier.weight", "classifier.bias"}
    with pytest.raises(ConfigError, match=r"lack 2 tensors of Net, such as classifier\.bias"):
        open_model(f"hf:{folder}")


def test_an_absent_folder_and_one_that_cannot_be_read(transformers, folder):
    with pytest.raises(DataError, match=r"no model at 'absent': expected a folder with config"):
        open_model("hf:absent")
    transformers.AutoConfig.made = lambda options: 1 / 0
    with pytest.raises(ConfigError, match=r"Transformers cannot read .*ZeroDivisionError"):
        open_model(f"hf:{folder}")


# ---------------------------------------------------------------- what is not installed


@pytest.mark.parametrize(
    ("name", "extra"), [("timm", "timm"), ("torchvision", "torchvision"), ("transformers", "hf")]
)
def test_an_absent_library_is_named_with_its_extra(name, extra, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'gradood\[{extra}\]'"):
        library(name)
    (tmp_path / "config.json").write_text("{}")
    spec = f"hf:{tmp_path}" if extra == "hf" else f"{name}:resnet18"
    assert main(["inspect", "--model", spec]) == 5
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"error: {name}, which makes the model, is not installed")


def test_a_torchvision_for_another_torch_is_told(monkeypatch, tmp_path):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('no operator nms\\nand more')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    with pytest.raises(
        ImportError, match=r"cannot be imported: RuntimeError: no operator nms\. .*"
    ):
        library("torchvision")
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)


# ---------------------------------------------------------------- the libraries themselves

SIZES = ((500, 375), (301, 229), (224, 224), (40, 300))


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "vit_tiny_patch16_224"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_timms_own_transforms(name):
    timm = needs("timm")
    opened = open_model(f"timm:{name}", num_classes=10)
    own = timm.data.create_transform(**timm.data.resolve_model_data_config(opened.model))
    preprocess = Preprocess(**opened.preprocess({}))
    for size in SIZES:
        assert torch.equal(preprocess(picture(*size)), own(picture(*size)))


@pytest.mark.parametrize(
    "name", ["resnet50.IMAGENET1K_V2", "vit_h_14.IMAGENET1K_SWAG_E2E_V1", "inception_v3.DEFAULT"]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchvisions_own_transforms(name):
    models = needs("torchvision").models
    architecture, _, tag = name.partition(".")
    weights = models.get_model_weights(architecture)[tag]
    own = weights.transforms()
    preprocess = Preprocess(**torchvision_inputs(architecture, {tag: own}))
    for size in SIZES:
        assert torch.equal(preprocess(picture(*size)), own(picture(*size)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchvisions_weights_that_differ():
    needs("torchvision")
    with pytest.raises(ConfigError, match=r"resnet50\.IMAGENET1K_V1 has resize 256"):
        open_model("torchvision:resnet50").preprocess({})
    assert open_model("torchvision:resnet18").preprocess({})["resize"] == 256


@pytest.fixture
def saved_resnet(tmp_path):
    """A tiny classifier, saved as Transformers does."""
    transformers = needs("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=5
    )
    model = transformers.ResNetForImageClassification(config).eval()
    model.save_pretrained(tmp_path)
    return model, config, tmp_path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_folder_written_by_transformers(saved_resnet):
    transformers = needs("transformers")
    model, _, folder = saved_resnet
    old = int(transformers.__version__.partition(".")[0]) < 5
    kind = transformers.ConvNextImageProcessor if old else transformers.ConvNextImageProcessorPil
    processor = kind(size={"shortest_edge": 64}, crop_pct=0.9)
    processor.save_pretrained(folder)
    subject = load_model(f"hf:{folder}")
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(subject.model(x).logits, model(x).logits)
    for size in SIZES:
        own = processor(picture(*size), return_tensors="np")["pixel_values"][0]
        found = subject.preprocess(picture(*size))
        assert torch.allclose(found, torch.as_tensor(np.asarray(own)), rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_backbone_written_by_transformers_is_refused(saved_resnet):
    transformers = needs("transformers")
    _, config, folder = saved_resnet
    transformers.ResNetModel(config).save_pretrained(folder)
    with pytest.raises(ConfigError, match=r"lack 2 tensors of ResNetForImageClassification"):
        open_model(f"hf:{folder}")
