"""Packages pushed to and taken from Hugging Face Hub."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from gradood._io.optional import optional_module
from gradood.errors import ConfigError, GradoodError, UnpinnedRevisionWarning, warn_caller
from gradood.hub._card import is_ours
from gradood.hub._package import Package, Trust, open_package
from gradood.hub._spec import CARD, DETECTOR, GRAPH, SPEC, WEIGHTS

__all__ = ["from_hub", "push_to_hub"]

_LOG = logging.getLogger(__name__)
_SHA = re.compile(r"[0-9a-f]{40}")
_FILES = (SPEC, CARD, DETECTOR, WEIGHTS, GRAPH)


def push_to_hub(
    folder: str | os.PathLike[str],
    repo: str,
    *,
    private: bool = True,
    message: str = "Package of gradood",
    token: str | None = None,
) -> str:
    """Push a package to a repository of Hugging Face Hub, which is made if there is none.

    The package is verified first, and only its own files are pushed. A ``README.md`` that is in the
    repository and that somebody wrote or edited is kept. ``HF_ENDPOINT`` in the environment names
    another server.

    Args:
        folder: that `pack` wrote.
        repo: ``owner/name``.
        private: whether only you may read it. A repository that is there and public is then
            refused.
        message: of the commit.
        token: of the Hub; None takes that of ``hf auth login`` or ``HF_TOKEN``.

    Returns:
        The SHA of the commit: the revision for `from_hub`.

    Raises:
        ConfigError: the folder is no package, or the repository is public, or holds other things.
        ArtifactError: the package is damaged.
        ModuleNotFoundError: huggingface-hub is not installed.
        OSError: the Hub cannot be reached, or refuses.
    """
    package = open_package(folder)
    api = _api(token)
    with _mapped():
        api.create_repo(repo, private=private, exist_ok=True)
        info = api.model_info(repo)
        there = {sibling.rfilename for sibling in info.siblings or ()}
        _check_repository(repo, info, there, private)
        own = [SPEC, *package.spec.files]
        if _has_card(package) and _may_write_card(api, repo, info, there):
            own.append(CARD)
        stale = [name for name in (WEIGHTS, GRAPH) if name in there and name not in own]
        commit = api.upload_folder(
            repo_id=repo,
            folder_path=package.folder,
            allow_patterns=own,
            delete_patterns=stale or None,
            commit_message=message,
            parent_commit=info.sha,  # So that nothing pushed meanwhile is lost.
        )
    return str(commit.oid)


def from_hub(
    repo: str,
    *,
    revision: str | None = None,
    trust: Trust | None = None,
    device: str = "cpu",
    model_folder: str | os.PathLike[str] | None = None,
    token: str | None = None,
) -> Any:
    """The monitor or guard of a package on Hugging Face Hub.

    Fetched files are kept in the cache of huggingface-hub, and verified as `load` does.

    Args:
        repo: ``owner/name``.
        revision: SHA of a commit. A branch or a tag, or None for the main branch, is taken as it is
            now, with a warning that says its SHA. Which was taken, `package_of` says.
        trust: as for `load`.
        device: as for `load`.
        model_folder: as for `load`.
        token: as for `push_to_hub`.

    Raises:
        ConfigError: the repository holds no package, or one that may not import what it names.
        ArtifactError: the package is damaged or refused.
        ModelMismatchError: the model is another one than the detector's.
        ModuleNotFoundError: huggingface-hub is not installed.
        OSError: the Hub cannot be reached, or has no such repository or revision.

    Warns:
        UnpinnedRevisionWarning: the revision is none that stays.
    """
    api = _api(token)
    with _mapped():
        taken = revision or ""
        if not _SHA.fullmatch(taken):
            taken = str(api.model_info(repo, revision=revision).sha)
            named = "no revision" if revision is None else f"revision {revision!r}, which may move"
            warn_caller(
                f"{repo} was asked for with {named}: it is {taken} now. Give revision={taken!r} "
                "to take the same again.",
                UnpinnedRevisionWarning,
            )
        folder = api.snapshot_download(repo, revision=taken, allow_patterns=list(_FILES))
    package = replace(open_package(Path(folder)), repo=repo, revision=taken)
    _LOG.info("%s was taken at revision %s", repo, taken)
    return package.load(trust=trust, device=device, model_folder=model_folder)


def _api(token: str | None) -> Any:
    hub = optional_module(
        "huggingface_hub", "huggingface-hub", "reaches the Hub", 'pip install "gradood[hub]"'
    )
    return hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=token)


@contextmanager
def _mapped() -> Iterator[None]:
    """What huggingface-hub and its HTTP client raise, as the built-in that it resembles."""
    try:
        yield
    except (GradoodError, OSError, Warning):
        raise
    except ValueError as error:
        raise ConfigError(f"huggingface-hub refuses: {_first_line(error)}") from error
    except Exception as error:
        raise ConnectionError(
            f"the Hub cannot be reached: {type(error).__name__}: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]


def _check_repository(repo: str, info: Any, there: set[str], private: bool) -> None:
    """Raise for a repository that a package does not belong into."""
    if private and not info.private:
        raise ConfigError(
            f"the repository {repo!r} is there, and public; make it private, or push with "
            "private=False."
        )
    others = sorted(there & {DETECTOR, WEIGHTS, GRAPH})
    if others and SPEC not in there:
        raise ConfigError(
            f"the repository {repo!r} holds {others[0]!r} of something else, which would be "
            "overwritten; push to one of its own."
        )


def _has_card(package: Package) -> bool:
    return (package.folder / CARD).is_file()


def _may_write_card(api: Any, repo: str, info: Any, there: set[str]) -> bool:
    """Whether the repository has no card, or one that this program wrote and nobody changed."""
    if CARD not in there:
        return True
    file = api.hf_hub_download(repo, CARD, revision=info.sha)
    ours = is_ours(Path(file).read_text(encoding="utf-8", errors="replace"))
    if not ours:
        _LOG.info("README.md of %s is kept, as it was written or edited by somebody", repo)
    return ours
