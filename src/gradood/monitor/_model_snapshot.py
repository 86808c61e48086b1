"""A model as it was when statistics were made on it: its content, and what it gave."""

import logging
import time
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, final

from torch import Tensor, nn

from gradood._io.canonical import encode
from gradood._io.records import shortened
from gradood.artifact import Fingerprint, NumericsRecord, differences, numeric_differences
from gradood.artifact.canary import Canary, compare, tolerance
from gradood.artifact.fingerprint import fingerprint
from gradood.errors import GradoodError
from gradood.evidence import LOGITS, gather
from gradood.monitor._numerics import applied_autocast, numerics
from gradood.monitor._plain_settings import Changes, PlainSettings, same_changes
from gradood.monitor._tensor_versions import TensorVersions
from gradood.taps import Inputs, Network, device_of, unwrap

__all__ = ["ModelContent", "ModelSnapshot"]

_LOG = logging.getLogger(__name__)
_PATIENCE = 100
"""A model that differs is read again after this many times what reading it took."""


@dataclass(frozen=True, eq=False, slots=True)
class ModelContent:
    """What a model holds at one moment, and the settings around it.

    Attributes:
        fingerprint: of parameters, buffers and structure.
        numerics: the settings that it would be run under.
        versions: identities and versions of its tensors; None if they were not noted.
    """

    fingerprint: Fingerprint
    numerics: NumericsRecord
    versions: TensorVersions | None = None

    @staticmethod
    def of(model: nn.Module) -> "ModelContent | None":
        """What a model holds here and now; None if that cannot be read.

        Args:
            model: wrapped or not.

        Cost: all parameters are hashed, about a gigabyte a second.
        """
        module = unwrap(model)
        try:
            versions = TensorVersions(module)  # First, so that no change in between is missed.
            return ModelContent(fingerprint(module), numerics(device_of(module)), versions)
        except Exception as error:  # Weights kept elsewhere, or a hook of the user's that raises.
            _LOG.info("nothing can be bound to the content of the model: %s", error)
            return None


@final
class ModelSnapshot:
    """What tells whether a model is still the one that statistics were made on.

    Buffers that the model's own forward writes, such as a count of its calls, have no part in it.

    Args:
        network: the observed model.
        content: what it held.
        inputs: (n, …) to run again.
        logits: (n, classes) that it gave for them.

    Attributes:
        content: as given.
    """

    def __init__(
        self, network: Network, content: ModelContent, inputs: Inputs, logits: Tensor
    ) -> None:
        self.content = content
        self._network = network
        self._canary = Canary.of(network.module, inputs, logits, {}, 0)
        self._versions = content.versions
        self._found: list[str] = []
        self._until = 0.0
        self._numerics = content.numerics
        self._numerics_found: list[str] = []
        self._settings = PlainSettings(network.module)
        self._settings_seen: Changes = {}
        self._settings_found: list[str] = []

    def __reduce__(self) -> tuple[Any, ...]:
        # Versions and addresses are of this process, and of these very tensors.
        content = replace(self.content, versions=None)
        return ModelSnapshot, (self._network, content, self._canary.inputs, self._canary.logits)

    @staticmethod
    def of(network: Network, content: ModelContent) -> "ModelSnapshot":
        """The model with what it gives for the input that it was observed on.

        Args:
            network: the observed model.
            content: what it held when the statistics were begun.

        Cost: a forward of one input.
        """
        return ModelSnapshot(network, content, network.example, _logits(network, network.example))

    @property
    def digest(self) -> str:
        """SHA-256 of the content, without what the model's own forward writes."""
        known = self._own(self.content.fingerprint)
        return sha256(encode([known.tensors, known.modules]).encode("ascii")).hexdigest()

    def changes(self) -> list[str]:
        """What differs now, in words; empty if nothing does, as far as torch counts changes.

        Values are compared only where a tensor was replaced, moved or written to, and logits only
        where a setting is another, as both may mean nothing.

        Cost: some 0.5 microseconds per tensor; where tensors were touched, all are hashed, again
        and again only in a hundredth of the time if the model has changed.
        """
        return self._content_changes() or self._setting_changes() or self._numeric_changes()

    def differences(self, now: ModelContent | None) -> list[str]:
        """What differs between the model and another look at it, in words.

        Args:
            now: what it holds; None if that cannot be read.

        Cost: a forward of a few inputs.
        """
        lines = self._compared(None if now is None else now.fingerprint)
        if now is not None:
            self._versions, self._found = now.versions, lines
        if not lines:
            with applied_autocast(self.content.numerics, self._network.device):
                lines = self._rerun()
            if lines:
                lines += numeric_differences(self.content.numerics, numerics(self._network.device))
        return lines

    # -- content --------------------------------------------------------------------------

    def _content_changes(self) -> list[str]:
        if self._versions is not None and self._versions.hold():
            return self._found
        if self._found and time.monotonic() < self._until:
            return self._found
        began = time.monotonic()
        now = ModelContent.of(self._network.module)
        self._found = self._compared(None if now is None else now.fingerprint)
        self._versions = None if now is None else now.versions
        self._until = began + _PATIENCE * (time.monotonic() - began)
        if not self._found:  # Modules may be others of the same content.
            self._settings.renew(self._network.module)
        return self._found

    def _compared(self, now: Fingerprint | None) -> list[str]:
        if now is None:
            return ["its weights cannot be read any more"]
        return differences(self._own(self.content.fingerprint), self._own(now))

    def _own(self, known: Fingerprint) -> Fingerprint:
        """A fingerprint without the tensors that the model's own forward writes."""
        pairs = self._network.views.written
        if not pairs:
            return known
        written = {f"{module}.{name}" if module else name for module, name in pairs}
        kept = {name: value for name, value in known.tensors.items() if name not in written}
        digest = sha256(encode(kept).encode("ascii")).hexdigest()
        return replace(known, digest=digest, tensors=kept)

    # -- computation ----------------------------------------------------------------------

    def _setting_changes(self) -> list[str]:
        """How attributes of modules differ, if the model gives something else with them."""
        if self._settings.hold():
            return []
        now = self._settings.changed()
        if not same_changes(now, self._settings_seen):
            with applied_autocast(self.content.numerics, self._network.device):
                moved = self._rerun()
            if not moved:
                self._settings.accept(now)
            self._settings_seen = now if moved else {}
            self._settings_found = [
                f"{place or 'the model'} has {name}={shortened(value)}; expected {before!r}"
                for (place, name), (before, value) in now.items()
                if moved
            ]
        return self._settings_found

    def _numeric_changes(self) -> list[str]:
        """How the settings differ, if the model gives something else under them."""
        now = numerics(self._network.device)
        if now != self._numerics:
            lines = numeric_differences(self.content.numerics, now)
            self._numerics_found = lines if lines and self._rerun() else []
            self._numerics = now
        return self._numerics_found

    def _rerun(self) -> list[str]:
        """How the model's logits differ from those it gave."""
        try:
            now = _logits(self._network, self._canary.inputs)
        except (GradoodError, RuntimeError) as error:
            return [f"it cannot be run as before ({error})"]
        allowed = tolerance(self._canary, self._network.module)
        return [
            line.removeprefix("canary ") for line in compare(self._canary, now.cpu(), {}, allowed)
        ]


def _logits(network: Network, inputs: Inputs) -> Tensor:
    return gather(network, inputs.to(network.device), (LOGITS,), None).logits
