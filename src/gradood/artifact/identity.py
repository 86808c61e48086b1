"""What tells one model from another, and the words for a difference."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradood.errors import ArtifactError, ModelMismatchError

__all__ = ["Fingerprint", "differences", "mismatch"]

_FIRST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """A model's parameters, buffers and structure, as hashes; made by `fingerprint`.

    Attributes:
        digest: SHA-256 over names, types, shapes and full hashes of all tensors.
        tensors: name → ``"dtype[shape] hash"``, the first 128 bits of the hash, to say which
            tensor differs.
        modules: name → class and, for the modules of torch, settings such as ``eps``; the model
            itself is ``""``.
    """

    digest: str
    tensors: Mapping[str, str]
    modules: Mapping[str, Mapping[str, Any]]

    def __post_init__(self) -> None:
        if len(self.digest) != 64 or not set(self.digest) <= set("0123456789abcdef"):
            raise ArtifactError("the model's fingerprint has no SHA-256 digest of 64 hex digits.")


def differences(expected: Fingerprint, found: Fingerprint) -> list[str]:
    """What differs between two models, in words; empty if nothing does.

    Settings are compared where both sides have them: a newer torch may give its modules more.

    Args:
        expected: of the model that a detector was fitted on.
        found: of the model given.

    Returns:
        Lines such as ``layer1.0.bn1.running_mean differs``, structure first, at most a few of
        each kind and then how many more.
    """
    lines = _first(_modules(expected.modules, found.modules), "modules")
    lines += _first(_tensors(expected.tensors, found.tensors), "tensors")
    if not lines and expected.digest != found.digest:
        lines.append("the hash over all parameters and buffers differs")
    return lines


def mismatch(lines: Sequence[str], what: str = "the saved detector") -> ModelMismatchError:
    """The error for a model that is not the one a detector was fitted on.

    Args:
        lines: what differs, from `differences` and `gradood.artifact.canary.compare`.
        what: the detector, as the user named it.
    """
    return ModelMismatchError(
        f"{what} belongs to another model than the one given: {'; '.join(lines)}. Give the model "
        "it was fitted on; or fit and calibrate again on this one; or, if the difference is meant "
        "and you answer for it, load with override='the reason', which is stamped on every result."
    )


def _modules(
    expected: Mapping[str, Mapping[str, Any]], found: Mapping[str, Mapping[str, Any]]
) -> Iterable[str]:
    yield from _absent(expected, found, "module")
    for name in expected:
        if name not in found:
            continue
        before, now = expected[name], found[name]
        shown = name or "the model"
        if before.get("class") != now.get("class"):
            given, wanted = (_article(settings.get("class")) for settings in (now, before))
            yield f"{shown} is {given}; expected {wanted}"
            continue
        for key in before:
            if key in now and before[key] != now[key]:
                yield f"{shown} has {key}={now[key]!r}; expected {before[key]!r}"


def _tensors(expected: Mapping[str, str], found: Mapping[str, str]) -> Iterable[str]:
    yield from _absent(expected, found, "tensor")
    for name, before in expected.items():
        now = found.get(name, before)
        if now == before:
            continue
        kind, _, _ = before.rpartition(" ")
        other, _, _ = now.rpartition(" ")
        yield f"{name} differs" if kind == other else f"{name} is {other}; expected {kind}"


def _absent(expected: Iterable[str], found: Iterable[str], kind: str) -> Iterable[str]:
    before, now = set(expected), set(found)
    for name in expected:
        if name not in now:
            yield f"{kind} {name!r} is missing"
    for name in found:
        if name not in before:
            yield f"{kind} {name!r} is unexpected"


def _first(lines: Iterable[str], kind: str) -> list[str]:
    found = list(lines)
    more = len(found) - _FIRST
    return found[:_FIRST] + ([f"and {more} more differences of {kind}"] if more > 0 else [])


def _article(name: Any) -> str:
    text = str(name)
    return f"{'an' if text[:1] in 'AEIOUaeiou' else 'a'} {text}"
