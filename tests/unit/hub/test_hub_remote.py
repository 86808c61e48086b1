"""Packages pushed to and taken from a server on loopback, by huggingface-hub itself."""

import json
import warnings

import hub_server
import pytest
import torch

import gradood.hub
from gradood.errors import ConfigError, UnpinnedRevisionWarning

constants = pytest.importorskip("huggingface_hub.constants")


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with hub_server.running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def test_what_is_pushed_is_what_was_packed_and_scores_alike(made, server, monkeypatch):
    sha = gradood.hub.push_to_hub(made.package, "me/detector", token="a-token")
    repository = server.repositories["me/detector"]
    assert repository.private and repository.head == sha
    pushed = repository.at(sha)
    assert pushed.pop(".gitattributes") == b""
    assert pushed == {file.name: file.read_bytes() for file in made.package.iterdir()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = gradood.hub.from_hub("me/detector", revision=sha, token="a-token")
    assert torch.equal(found.predict(made.x).score, made.monitor.predict(made.x).score)
    package = gradood.hub.package_of(found)
    assert (package.repo, package.revision) == ("me/detector", sha)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert gradood.hub.from_hub("me/detector", revision=sha).combine == "fisher"
    with pytest.raises(OSError):
        gradood.hub.from_hub("me/detector", revision="main")


def test_a_branch_warns_and_the_revision_taken_is_recorded(made, server):
    sha = gradood.hub.push_to_hub(made.package, "me/detector")
    for revision in (None, "main"):
        with pytest.warns(UnpinnedRevisionWarning, match=f"revision='{sha}'"):
            found = gradood.hub.from_hub("me/detector", revision=revision)
        assert gradood.hub.package_of(found).revision == sha


def test_a_card_that_somebody_wrote_is_kept_and_ours_is_replaced(made, copied, server):
    first = gradood.hub.push_to_hub(made.package, "me/detector")
    repository = server.repositories["me/detector"]
    (copied / "README.md").unlink()
    gradood.hub.pack(
        copied,
        made.folder / "detector.safetensors",
        "digits_net",
        made.folder / "weights.safetensors",
        details=gradood.hub.Details(force=True),
    )
    second = gradood.hub.push_to_hub(copied, "me/detector")
    assert second != first
    assert repository.at(second)["README.md"] == (copied / "README.md").read_bytes()
    repository.commit({**repository.at(second), "README.md": b"# Mine\n", "data.csv": b"1"})
    third = gradood.hub.push_to_hub(made.package, "me/detector")
    assert repository.at(third)["README.md"] == b"# Mine\n"
    assert repository.at(third)["data.csv"] == b"1"
    assert json.loads(repository.at(third)["spec.json"])["classes"][0] == "digit 0"


def test_a_public_repository_needs_to_be_meant(made, server):
    server.repositories["me/public"] = hub_server.Repository(private=False)
    with pytest.raises(ConfigError, match="public"):
        gradood.hub.push_to_hub(made.package, "me/public")
    assert gradood.hub.push_to_hub(made.package, "me/public", private=False)


def test_files_of_something_else_are_not_overwritten(made, server):
    files = {"model.safetensors": b"theirs", "config.json": b"{}"}
    server.repositories["me/vit"] = hub_server.Repository(True, files)
    with pytest.raises(ConfigError, match="of something else"):
        gradood.hub.push_to_hub(made.package, "me/vit")
    assert server.repositories["me/vit"].at("main")["model.safetensors"] == b"theirs"
    with (
        pytest.warns(UnpinnedRevisionWarning),
        pytest.raises(ConfigError, match="no package"),
    ):
        gradood.hub.from_hub("me/vit")


def test_a_damaged_package_is_not_pushed_and_what_is_not_there_is_said(copied, server):
    (copied / "model.safetensors").write_bytes(b"")
    with pytest.raises(gradood.errors.ModelMismatchError):
        gradood.hub.push_to_hub(copied, "me/detector")
    assert server.requests == []
    with pytest.raises(OSError, match="404"):
        gradood.hub.from_hub("me/absent")
    with pytest.raises(ConfigError, match="refuses"):
        gradood.hub.from_hub("no such name/..")
