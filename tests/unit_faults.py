"""Planted faults, each of which the unit tests must catch.

A fault is one replacement in a copy of the package. `python tests/unit_faults.py` loads torch once,
forks for every fault, runs the tests named for it against the faulty copy, and prints one JSON
line per fault; the first line is of the copy without a fault, which must pass them all.
"""

import json
import os
import shutil
import sys
import tempfile
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "gradood"
_AT_ONCE = 2

__all__ = ["FAULTS", "Fault", "Outcome", "outcomes", "planted"]


@dataclass(frozen=True)
class Fault:
    """One replacement, and the tests that must fail with it.

    Attributes:
        name: what is wrong.
        file: inside the package.
        old: text that occurs there exactly once.
        new: what replaces it.
        tests: ``file::function`` under ``tests/unit``; at least one case of each must fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What the tests said.

    Attributes:
        name: of the fault; empty for none.
        code: exit code of pytest.
        imported: the package's folder as it was imported.
        failed: tests that failed, without their parameters.
    """

    name: str
    code: int
    imported: str
    failed: tuple[str, ...]


FAULTS = (
    Fault(
        "GradNorm's sign is turned",
        "detectors/gradnorm.py",
        "return -last_layer_gradient_norm(",
        "return last_layer_gradient_norm(",
        ("test_monitor.py::test_scores_of_gradients_are_the_formulas",),
    ),
    Fault(
        "GAIA-Z forgets the square",
        "functional/gaia.py",
        "share.double().square().sum(1)",
        "share.double().sum(1)",
        ("functional/test_gradients.py::test_zero_abnormality_weighs_channels_alike",),
    ),
    Fault(
        "GAIA-A forgets the number of positions",
        "detectors/gaia_a.py",
        "outer = outer / evidence.readings[2][:, None]",
        "outer = outer * 1.0",
        ("test_monitor.py::test_scores_of_gradients_are_the_formulas",),
    ),
    Fault(
        "GAIA-A gives NaN at a uniform softmax",
        "functional/gaia.py",
        "return torch.where(squared > 0, mean / squared, torch.inf)",
        "return mean / squared",
        (
            "functional/test_gradients.py::test_abnormality_ratio_weighs_channels_alike_and_never_gives_nan",
        ),
    ),
    Fault(
        "LINe keeps what equals the percentile",
        "functional/line.py",
        "above = values > float(",
        "above = values >= float(",
        ("functional/test_line_pruning.py::test_ties_at_the_percentile_are_pruned",),
    ),
    Fault(
        "the energy loses its factor T",
        "functional/logits.py",
        "return -temperature * torch.logsumexp(logits / temperature, 1)",
        "return -torch.logsumexp(logits / temperature, 1)",
        ("functional/test_gradients.py::test_energy_is_the_logarithm_of_a_sum",),
    ),
    Fault(
        "merging scatter forgets the shift of the means",
        "functional/moments.py",
        "scatter = self.scatter + other.scatter + weighted.T @ shift",
        "scatter = self.scatter + other.scatter",
        ("functional/test_moments.py::test_equal_to_the_moments_of_all",),
    ),
    Fault(
        "the covariance is divided by n − 1",
        "detectors/mahalanobis.py",
        "oracle_shrinkage(moments.scatter / samples, samples)",
        "oracle_shrinkage(moments.scatter / (samples - 1), samples)",
        ("test_monitor.py::test_mahalanobis_is_the_formula",),
    ),
    Fault(
        "GROOD's bank holds misclassified samples",
        "detectors/grood.py",
        'chosen = right if self.bank == "correct" else torch.ones_like(right)',
        "chosen = torch.ones_like(right)",
        ("test_monitor.py::test_grood_keeps_the_gradients_of_correct_samples_or_of_all",),
    ),
    Fault(
        "GROOD's margins are turned",
        "functional/grood.py",
        "distance[:, None] - others,",
        "others - distance[:, None],",
        ("functional/test_gradients.py::test_grood_gradient_equals_autograd_for_any_label",),
    ),
    Fault(
        "the search skips blocks that may hold the nearest",
        "functional/neighbors.py",
        "gap = torch.maximum(low - own, own - high).clamp_min(0)",
        "gap = torch.maximum(high - own, own - low).clamp_min(0)",
        ("functional/test_neighbors.py::test_random_vectors",),
    ),
    Fault(
        "the neighbor before the k-th",
        "functional/neighbors.py",
        "distances.kthvalue(k, 1)",
        "distances.kthvalue(max(1, k - 1), 1)",
        ("functional/test_neighbors.py::test_random_vectors",),
    ),
    Fault(
        "quantiles are off by one rank",
        "functional/quantiles.py",
        "rank = share * (int(below[-1]) - 1)",
        "rank = share * int(below[-1])",
        ("functional/test_quantiles.py::test_equal_to_numpy",),
    ),
    Fault(
        "a selection keeps the first rows, not those of the smallest keys",
        "functional/samples.py",
        'order = torch.argsort(columns["key"], stable=True)[:size]',
        'order = torch.arange(len(columns["key"]))[:size]',
        ("functional/test_samples.py::test_a_selection_does_not_depend_on_sharding",),
    ),
    Fault(
        "a content key depends on the batch",
        "evidence/keys.py",
        "weights = _mix(place) | 1",
        "weights = _mix(place + len(x)) | 1",
        ("evidence/test_keys.py::test_the_same_in_any_batch_order_and_layout",),
    ),
    Fault(
        "max pooling also selects zeros",
        "evidence/summaries.py",
        "(largest > 0).flatten(2)",
        "(largest >= 0).flatten(2)",
        ("evidence/test_summaries.py::test_max_pooled_share_is_the_share_of_nonzero_gradients",),
    ),
    Fault(
        "a detector sees what others asked for",
        "evidence/gather.py",
        "found = {read: self._read[read] for read in reads}",
        "found = self._read",
        ("evidence/test_gather.py::test_only_hides_the_rest",),
    ),
    Fault(
        "per-sample gradients ignore the temperature",
        "evidence/parameters.py",
        "logits.to(torch.promote_types(logits.dtype, torch.float32)) / read.temperature",
        "logits.to(torch.promote_types(logits.dtype, torch.float32))",
        ("evidence/test_gather.py::test_parameter_norms_equal_a_loop_of_autograd",),
    ),
    Fault(
        "a NaN input reads as the zeros put in its place",
        "monitor.py",
        "out[name] = scores if bad is None else scores.masked_fill(bad, torch.inf)",
        "out[name] = scores",
        ("test_monitor.py::test_a_row_that_is_not_finite_scores_infinity_and_disturbs_no_other",),
    ),
    Fault(
        "labels beyond the classes are let in",
        "detectors/classes.py",
        "if len(wrong):",
        "if len(wrong) > 10**9:",
        ("test_monitor.py::test_labels_beyond_the_classes_are_refused",),
    ),
    Fault(
        "labels of any shape are let in",
        "batches.py",
        "or labels.shape != (size,)",
        "or labels.shape[:1] != (size,)",
        ("test_batches.py::test_labels_that_do_not_fit_are_refused_only_if_wanted",),
    ),
    Fault(
        "FPR95 keeps more than 95 %",
        "metrics.py",
        "np.argmax(100 * kept >= 95 * kept[-1])",
        "np.argmax(100 * kept > 95 * kept[-1])",
        ("test_metrics.py::test_at_least_95_percent_is_kept_where_the_float_0_95_would_be_off",),
    ),
    Fault(
        "training flags stay off",
        "taps/wrap.py",
        "                module.training = flag\n",
        "                pass\n",
        (
            "taps/test_wrap.py::test_modes_flags_and_generator_are_restored",
            "taps/test_tap.py::test_model_is_left_as_found",
        ),
    ),
    Fault(
        "the random generator moves on",
        "taps/wrap.py",
        "stack.enter_context(torch.random.fork_rng(devices=devices))",
        "assert devices is not None",
        (
            "taps/test_wrap.py::test_modes_flags_and_generator_are_restored",
            "taps/test_tap.py::test_model_is_left_as_found",
        ),
    ),
    Fault(
        "hooks stay on the model",
        "taps/tap.py",
        "            handle.remove()\n",
        "            pass\n",
        ("taps/test_tap.py::test_model_is_left_as_found",),
    ),
    Fault(
        "a leaf is handed to in-place layers",
        "taps/tap.py",
        "tensor = tensor.detach().requires_grad_().clone()",
        "tensor = tensor.detach().requires_grad_()",
        ("taps/test_tap.py::test_gradients_equal_autograd_without_in_place_layers",),
    ),
    Fault(
        "gradients are read after the in-place layer",
        "taps/tap.py",
        "hook = tensor.register_hook(lambda gradient: self._receive(site, gradient))",
        "hook = (tensor := tensor.relu()).register_hook(lambda g: self._receive(site, g))",
        ("taps/test_tap.py::test_gradients_equal_autograd_without_in_place_layers",),
    ),
    Fault(
        "a graph outlives its look",
        "taps/tap.py",
        "hook = tensor.register_hook(lambda gradient: self._receive(site, gradient))\n"
        "        self._handles.append(hook)\n",
        "kept = dict(self._values)\n"
        "        tensor.register_hook(lambda g: self._receive(site, g) or kept and None)\n",
        ("taps/test_tap.py::test_no_graph_survives_readings_that_keep_their_tensor",),
    ),
    Fault(
        "the ReLU after a residual sum is not seen",
        "taps/graph.py",
        'taker.name().startswith("AddBackward")',
        'taker.name().startswith("MulBackward")',
        ("taps/test_observation.py::test_a_residual_sum_is_read_after_its_relu",),
    ),
    Fault(
        "a head is believed without proof",
        "taps/head.py",
        "if error <= _tolerance(logits.dtype, seen.dtype):",
        "if error <= 1e9:",
        ("taps/test_head.py::test_logits_changed_after_the_head_are_refused_with_what_was_tried",),
    ),
)


def planted(fault: Fault | None, folder: Path) -> Path:
    """A copy of the package with this fault, in a folder to put on the path."""
    target = folder / "gradood"
    shutil.copytree(PACKAGE, target, ignore=shutil.ignore_patterns("__pycache__"))
    if fault is not None:
        file = target / fault.file
        text = file.read_text(encoding="utf-8")
        assert text.count(fault.old) == 1, f"{fault.name}: {text.count(fault.old)} × {fault.old!r}"
        file.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    return folder


class _Failures:
    """A pytest plugin that notes which tests fail."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed:
            self.found.add(report.nodeid.split("[")[0].removeprefix("tests/unit/"))


def _run(fault: Fault | None, tests: Sequence[str], folder: Path) -> Outcome:
    """In a process of its own: the package has not been imported yet."""
    import pytest

    assert not any(name.split(".")[0] == "gradood" for name in sys.modules)
    # First on the path, so that no installed copy, editable or not, is taken instead.
    sys.path.insert(0, str(planted(fault, folder)))
    sys.dont_write_bytecode = True
    failures = _Failures()
    arguments = ["-q", "-p", "no:cacheprovider", "--tb=short", f"--rootdir={ROOT}"]
    arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # what is loaded already
    arguments += [str(ROOT / "tests" / "unit" / test) for test in tests]
    code = int(pytest.main(arguments, plugins=[failures]))
    imported = str(Path(str(sys.modules["gradood"].__file__)).parent)
    name = "" if fault is None else fault.name
    return Outcome(name, code, imported, tuple(sorted(failures.found)))


class _Forked:
    """The tests of one fault, running in a process of their own."""

    def __init__(self, fault: Fault | None, tests: Sequence[str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="gradood-fault-")
        folder = Path(self._folder.name)
        self._child = os.fork()
        if self._child == 0:
            try:
                log = (folder / "log.txt").open("w")
                with log, redirect_stdout(log), redirect_stderr(log):
                    outcome = _run(fault, tests, folder)
                (folder / "answer.json").write_text(json.dumps(asdict(outcome)))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)

    def outcome(self) -> Outcome:
        os.waitpid(self._child, 0)
        with self._folder as name:
            folder = Path(name)
            print((folder / "log.txt").read_text(), file=sys.stderr, flush=True)
            given = json.loads((folder / "answer.json").read_text())
            expected = folder / "gradood"
            assert Path(given["imported"]).resolve() == expected.resolve(), given["imported"]
        return Outcome(**{**given, "failed": tuple(given["failed"])})


def _preload() -> None:
    """Everything slow that the tests import, but nothing of the package, and no thread."""
    import hypothesis  # noqa: F401
    import pytest  # noqa: F401
    import sklearn.covariance
    import sklearn.metrics  # noqa: F401
    import torch
    from beartype import beartype  # noqa: F401
    from torch.func import vmap  # noqa: F401
    from torch.nn.parallel import DistributedDataParallel  # noqa: F401

    torch.set_num_threads(1)
    torch.testing.assert_close(torch.zeros(1), torch.zeros(1))


def outcomes(faults: Sequence[Fault]) -> Iterator[Outcome]:
    """First of no fault with all the tests, then of each fault with its own."""
    _preload()
    todo: list[tuple[Fault | None, Sequence[str]]] = [(fault, fault.tests) for fault in faults]
    todo.insert(0, (None, sorted({test for fault in faults for test in fault.tests})))
    running: deque[_Forked] = deque()
    for fault, tests in todo:
        if len(running) == _AT_ONCE:
            yield running.popleft().outcome()
        running.append(_Forked(fault, tests))
    while running:
        yield running.popleft().outcome()


if __name__ == "__main__":
    for one in outcomes(FAULTS):
        print(json.dumps(asdict(one)), flush=True)
