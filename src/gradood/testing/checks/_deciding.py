"""Checks of what follows a score: decisions, and a detector saved and loaded."""

import tempfile
import warnings
from pathlib import Path

import torch

from gradood.artifact import check
from gradood.errors import UninformativeScoreWarning
from gradood.monitor import load
from gradood.testing.case import Case
from gradood.testing.checks.check import Collection

__all__ = ["DECIDING"]

DECIDING = Collection()


@DECIDING.check()
def saved_and_loaded(case: Case) -> None:
    """Saved and loaded onto the same network, scores and decisions are the same to the last bit."""
    if not case.registered:  # Only what the registry names can be found again.
        return
    model = case.network.model()
    monitor = case.fitted(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UninformativeScoreWarning)
        monitor.calibrate(case.network.inputs(64, seed=3), fpr=0.1)
    before = monitor.predict(case.x)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "detector.safetensors"
        monitor.save(path)
        again = load(path, model)
        after = again.predict(case.x)
        for name in ("score", "p_value", "is_ood", "label"):
            was, found = getattr(before, name), getattr(after, name)
            assert torch.equal(was, found), f"{name} changed: {was.tolist()}, {found.tolist()}"
        first = check(path)
        again.save(path)
        assert check(path).payload_sha256 == first.payload_sha256, "saved again, it is another"


@DECIDING.check()
def decided(case: Case) -> None:
    """p-values lie in (0, 1]; what is not finite is out-of-distribution."""
    monitor = case.fitted(case.network.model())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UninformativeScoreWarning)
        monitor.calibrate(case.network.inputs(64, seed=3), fpr=0.1)
    result = monitor.predict(case.x)
    assert len(result) == len(case.x) == len(result.p_value)
    assert bool(((result.p_value > 0) & (result.p_value <= 1)).all()), result.p_value
    assert torch.equal(result.is_ood, result.p_value <= 0.1), "in marginal mode they agree"
    if case.x.is_floating_point():
        broken = case.x.clone()
        broken[0].view(-1)[0] = torch.nan
        found = monitor.predict(broken)
        assert found.status[0] == "nonfinite_input" and bool(found.is_ood[0]), found.status
        assert float(found.score[0]) == torch.inf and int(found.label[0]) == -1, found.score
