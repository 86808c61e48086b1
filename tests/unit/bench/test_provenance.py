import json
import subprocess
from datetime import datetime

import pytest
import torch

import gradood
from gradood.bench import json_text
from gradood.bench.folder import commit, provenance


def test_says_versions_time_and_machine():
    found = json.loads(json_text(provenance()))
    assert found["versions"]["torch"] == torch.__version__
    assert found["versions"]["gradood"] == gradood.__version__
    assert datetime.fromisoformat(found["date"]).utcoffset() is not None
    assert found["machine"]["threads"] >= 1


def test_commit_is_that_of_the_clone_it_runs_from():
    found = commit()
    if found is None:
        pytest.skip("needs git and a clone")
    assert len(found.removesuffix("-dirty")) == 40


def test_no_commit_where_git_is_not_there(monkeypatch):
    def absent(*args, **kwargs):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", absent)
    assert commit() is None


def test_no_commit_for_a_package_inside_the_clone_of_another_project(tmp_path, monkeypatch):
    try:
        subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git")
    monkeypatch.setattr(gradood, "__file__", str(tmp_path / "__init__.py"))
    (tmp_path / "__init__.py").touch()
    assert commit() is None
