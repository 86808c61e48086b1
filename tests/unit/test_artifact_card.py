import json
import re
from dataclasses import replace

import pytest
from artifact_samples import sample

from gradood.artifact import FORMAT, card, check, write
from gradood.artifact.card import _sharing
from gradood.cli import main

PLACEHOLDER = re.compile(r"\bNone\b(?![.:*])|\bTODO\b|\bnull\b|\{\w*\}|\bnan\b|<\w|object at 0x")


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "detector.safetensors"
    write(file, *sample())
    return file


def test_a_card_says_what_it_must(file):
    verified = check(file)
    text = card(verified, file.name)
    wanted = [
        "# Out-of-distribution detector: detector.safetensors",
        "Class `MLP`, 2 classes",
        "Head: `fc`",
        "**`knn`** (method `knn`): Distance to the k-th nearest fit feature.",
        "Options: `k = 1, layers = [a, (b = none)], share = 0.5`",
        "Paper: Sun et al. 2022",
        "at most 5 % false alarms, with 95 % confidence",
        "from 59 calibration samples",
        "combined into one decision by `fisher`",
        "60 in-distribution samples",
        "per class: 29, 31",
        "mean: `[0.5, 0.25, 0.125]`",
        "crop: `none`",
        "`knn`: The features are few.",
        "**model mismatch**, overridden because: a test",
        "gradood verify detector.safetensors",
        verified.sha256,
        verified.manifest_sha256,
        verified.payload_sha256,
        verified.manifest.model.fingerprint.digest,
    ]
    assert [part for part in wanted if part not in text] == []
    assert PLACEHOLDER.search(text) is None
    assert text.endswith("\n") and "\n\n\n" not in text


def bare(manifest):
    """The least that a manifest can say."""
    return replace(
        manifest,
        detectors=(replace(manifest.detectors[0], options={}, paper="", state={}),),
        combine=None,
        model=replace(manifest.model, layers=(), head=None, input_shape=()),
        preprocess=None,
        calibration=None,
        fit=None,
        seeds={},
        overrides=(),
        notes=(),
        canary=None,
        arrays=(),
    )


def test_a_card_of_the_least_has_no_gaps_either(tmp_path):
    verified = write(tmp_path / "x", bare(sample()[0]), {})
    text = card(verified)
    assert "not calibrated" in text and "promises no false-alarm rate" in text
    assert "learn nothing from data" in text
    assert "Inputs must be prepared as those" in text
    assert "no check was overridden" in text
    assert "monitor.score(images)" in text and "monitor.predict" not in text
    assert PLACEHOLDER.search(text) is None
    assert not re.search(r"^#.*\n\n#", text, re.M)


def test_promises_of_either_kind_wherever_the_record_keeps_them():
    manifest, _ = sample()
    promise = {"fpr": 0.01, "mode": "marginal", "confidence": 0.95}
    record = {"promise": promise, "samples": 5000, "per_class": True}
    for calibration, words in (
        (record, "- At most 1 % false alarms, on average over"),
        ({"knn": record}, "- `knn`: at most 1 % false alarms, on average"),
        ({"detectors": {"knn": record}, "combined": None}, "- `knn`: at most 1 %"),
        ({"single": {"knn": record}}, "- `single knn`: at most 1 %"),
        ({"fpr": 0.01, "mode": "marginal"}, "- At most 1 %"),
    ):
        text = text_of(replace(manifest, calibration=calibration))
        assert words in text
        if calibration is record:
            assert "from 5,000 calibration samples, within each predicted class." in text
    assert "Calibrated: `(other = 1)`" in text_of(replace(manifest, calibration={"other": 1}))


@pytest.mark.parametrize("samples", [166, None, "166", -1])
def test_samples_that_bring_scores_to_one_scale_are_told_apart(samples):
    manifest, _ = sample()
    record = {"promise": {"fpr": 0.05, "mode": "marginal"}, "samples": 334}
    fusion = {} if samples is None else {"samples": samples}
    text = text_of(replace(manifest, calibration={"combined": record, "fusion": fusion}))
    told = "combined into one decision by `fisher`; 166 further samples bring their scores"
    assert (told in text) == (samples == 166) and "from 334 calibration samples" in text


def text_of(manifest) -> str:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        return card(write(Path(folder) / "x", manifest, sample()[1]))


def test_many_classes_are_summed_up():
    manifest, _ = sample()
    fit = replace(manifest.fit, class_counts=(0, *range(1, 100)))
    assert "100 classes with 0 to 99 samples each, 1 of them without any" in text_of(
        replace(manifest, fit=fit)
    )
    assert "without class labels" in text_of(replace(manifest, fit=replace(fit, class_counts=None)))


def test_text_of_a_file_cannot_become_markup():
    manifest, _ = sample()
    evil = "<script>x</script>\n# Heading\n![x](http://x) `code` | *a*"
    text = text_of(
        replace(
            manifest,
            notes=(evil,),
            detectors=(replace(manifest.detectors[0], title=evil, fails_when=evil),),
        )
    )
    assert "\n# Heading" not in text and "<script>" not in text.replace("\\<script\\>", "")
    assert "![x](" not in text


# -- the commands ---------------------------------------------------------------------------------


def test_gradood_verify(file, capsys):
    assert main(["verify", str(file)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"{file}: intact\n")
    for part in (
        f"{FORMAT}, written by gradood",
        "knn",
        "MLP, 2 classes",
        check(file).sha256,
        "a test",
    ):
        assert part in out


def test_gradood_verify_as_json(file, capsys):
    assert main(["verify", "--json", str(file)]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    verified = check(file)
    assert found["intact"] is True and found["sha256"] == verified.sha256
    assert found["bytes"] == file.stat().st_size and found["detectors"] == ["knn"]
    assert found["model_sha256"] == verified.manifest.model.fingerprint.digest


@pytest.mark.parametrize("command", ["verify", "card"])
def test_exit_codes(file, capsys, command):
    assert main([command, str(file.parent / "absent")]) == 2
    assert main([command, str(file.parent)]) == 2
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"\xff")
    assert main([command, str(file)]) == 3
    file.write_bytes(content[:50])
    assert main([command, str(file)]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 4 and all(line.startswith("error: ") for line in lines)
    assert "do not match their SHA-256" in lines[2]


def test_gradood_card(file, capsys, tmp_path):
    assert main(["card", str(file)]) == 0
    text = capsys.readouterr().out
    assert text == card(check(file), file.name)
    assert main(["card", str(file), "--out", str(tmp_path / "card.md")]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "card.md").read_text(encoding="utf-8") == text
    assert main(["card", str(file), "--out", str(tmp_path)]) == 5
    assert main(["card", "--json", str(file)]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["manifest"] == check(file).manifest.to_dict()
    assert found["sha256"] == check(file).sha256


def test_control_characters_of_a_file_do_not_reach_the_terminal(tmp_path, capsys):
    manifest, arrays = sample()
    evil = replace(manifest, model=replace(manifest.model, kind="\x1b[2J\x1b]0;owned\x07MLP"))
    write(tmp_path / "x", evil, arrays)
    for command in ("verify", "card"):
        assert main([command, str(tmp_path / "x")]) == 0
        out = capsys.readouterr().out
        assert "\x1b" not in out and "\x07" not in out and "MLP" in out


def test_options_that_json_lacks_are_shown_as_they_are():
    manifest, _ = sample()
    options = {
        "order": {"$float": "inf"},
        "prototype": {"$tensor": "options/prototype"},
        "layers": {"$tuple": ["a", "b"]},
        "exact": True,
    }
    record = replace(manifest.detectors[0], options=options)
    text = text_of(replace(manifest, detectors=(record,)))
    assert "order = inf, prototype = tensor options/prototype`" in text
    assert "`exact = True, layers = [a, b]," in text


@pytest.mark.parametrize("groups", [3, 0.5, "x", {"classes": [1]}, [3], None])
def test_groups_of_another_form_are_passed_over(groups):
    assert _sharing({"groups": groups}) == []
