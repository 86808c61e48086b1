"""Checks that the user's model is left as it was found, in whatever state that was."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from gradood.errors import DataError, GradoodError
from gradood.evidence import Gradient, JacobianNorm, ParameterNorm, Perturbed
from gradood.taps.isolation import only_thread
from gradood.testing._snapshot import left_alone
from gradood.testing.case import Case
from gradood.testing.checks.check import Collection

__all__ = ["MODEL"]

MODEL = Collection()


@MODEL.check(refused=True)
def model_left_as_found(case: Case) -> None:
    """Weights, buffers, gradients, flags, hooks, random state and grad mode stay; also if refused.

    The model comes half in training mode, with gradients on some parameters.
    """
    model = _lived_in(case)
    monitor = case.unfitted(model)
    with left_alone(model, "binding and fitting"):
        try:
            monitor.bind(case.data()[0][0])
            monitor.fit(case.data())
        except GradoodError:
            if case.refusal is None:
                raise
            return
    with left_alone(model, "scoring"):
        case.agree(monitor.score(case.x), case.scores, "a model in training mode")


@MODEL.check()
def exception_in_the_forward(case: Case) -> None:
    """An error raised inside the model passes through, and leaves the model as found."""
    _explode(case, _BoomError)


@MODEL.check()
def interrupt_in_the_forward(case: Case) -> None:
    """Ctrl-C inside the model's forward passes through, and leaves the model as found."""
    _explode(case, KeyboardInterrupt)


@MODEL.check()
def foreign_hooks(case: Case) -> None:
    """Hooks that others put on the model stay, keep firing, and keep their order and effect."""
    model = case.network.model()
    fired: list[str] = []
    modules = dict(model.named_modules())
    layers = [name for name in (*case.binding.network.layers, "") if name in modules]
    for name in layers:
        modules[name].register_forward_hook(lambda *_, name=name: fired.append(name))
        modules[name].register_forward_pre_hook(lambda *_: None)
    monitor = case.fitted(model)
    with left_alone(model, "scoring a model with hooks"):
        fired.clear()
        case.agree(monitor.score(case.x), case.scores, "a model with other hooks")
    silent = set(layers) - set(fired)
    assert not silent, f"hooks of others on {', '.join(sorted(silent))} did not fire"


@MODEL.check()
def grad_modes(case: Case) -> None:
    """Inside no_grad, enable_grad and inference mode, a fit and a score are the same."""
    for mode in (torch.enable_grad, torch.inference_mode):
        model = case.network.model()
        with mode(), left_alone(model, f"working inside {mode.__name__}"):
            monitor = case.fitted(model)
            case.agree(monitor.score(case.x.clone()), case.scores, f"inside {mode.__name__}")
        case.agree(monitor.score(case.x), case.scores, f"after {mode.__name__}")
    with torch.no_grad():
        case.agree(case.monitor.score(case.x), case.scores, "inside no_grad")
    with torch.inference_mode():
        x = case.x.clone()
    case.agree(case.monitor.score(x), case.scores, "inputs made in inference mode")


@MODEL.check()
def autocast(case: Case) -> None:
    """Inside bfloat16 autocast the scores are finite and the model is left as found.

    Gradients per sample (`ParameterNorm`) need not survive it.
    """
    if any(isinstance(read, ParameterNorm) for read in case.reads):
        return
    model = case.network.model()
    with torch.autocast("cpu", torch.bfloat16), left_alone(model, "working inside autocast"):
        scores = case.fitted(model).score(case.x)
    assert bool(scores.isfinite().all()), f"{scores.tolist()} inside autocast"


@MODEL.check()
def frozen_model(case: Case) -> None:
    """Whether parameters require gradients does not matter."""
    model = case.network.model()
    model.requires_grad_(case.network.frozen)
    case.agree(case.fitted(model).score(case.x), case.scores, "requires_grad the other way")


@MODEL.check()
def copied_model(case: Case) -> None:
    """A deep copy of a model that is being watched scores the same, and holds no hook of ours."""
    model = copy.deepcopy(case.model)
    case.agree(case.fitted(model).score(case.x), case.scores, "a copy of the model")


@MODEL.check()
def wrapped_model(case: Case) -> None:
    """DataParallel, torch.compile and modules around the classifier do not matter."""
    wrappers: dict[str, Callable[[nn.Module], Any]] = {
        "a compiled DataParallel": lambda model: torch.compile(
            nn.DataParallel(model), backend="eager"
        ),
    }
    if not _names_a_layer(case):
        wrappers["Sequential"] = lambda model: nn.Sequential(nn.Sequential(model))
    for name, wrap in wrappers.items():
        model = wrap(case.network.model())
        with left_alone(model, f"working on {name}"):
            case.agree(case.fitted(model).score(case.x), case.scores, f"inside {name}")


@MODEL.check()
def one_look(case: Case) -> None:
    """Scoring a batch is one forward, and at most one backward per objective; none for parameters.

    Each `Perturbation` adds a forward; `ParameterNorm` and `JacobianNorm` take passes of their own.
    """
    reads = case.reads
    if any(isinstance(read, JacobianNorm | ParameterNorm) for read in reads):
        return
    steps = {read.perturbation for read in reads if isinstance(read, Perturbed)}
    objectives = {read.objective for read in reads if isinstance(read, Gradient)}
    objectives |= {step.objective for step in steps}
    forwards, backwards = _passes(case)
    assert forwards == 1 + len(steps), f"{forwards} forwards for one batch, {len(steps)} steps"
    assert backwards == len(objectives), f"{backwards} backwards for {len(objectives)} objectives"


def _passes(case: Case) -> tuple[int, int]:
    monitor, model = case.monitor, case.model
    forwards: list[int] = []
    backwards: list[int] = []
    original = torch.autograd.grad

    def counted(*args: Any, **options: Any) -> Any:
        backwards.append(1)
        return original(*args, **options)

    handle = model.register_forward_pre_hook(lambda *_: forwards.append(1))
    torch.autograd.grad = counted
    try:
        monitor.score(case.x)
    finally:
        torch.autograd.grad = original
        handle.remove()
    return len(forwards), len(backwards)


class _BoomError(Exception):
    """Raised by the model of a check."""


def _explode(case: Case, error: type[BaseException]) -> None:
    """Let the model raise at its first, its last and some forwards between, and look after each."""
    model = _lived_in(case)
    # The last leaf to run before the head, so that every reading has been made by then.
    layer = list(case.binding.network.layers)[-2]
    left = [10**9]

    def bomb(*_: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise error

    model.get_submodule(layer).register_forward_pre_hook(bomb)
    case.fitted(model).score(case.x)
    runs = 10**9 - left[0]
    for run in sorted({2, runs // 2, runs}):
        left[0] = run
        monitor = case.unfitted(model)
        with left_alone(model, f"{error.__name__} in forward {run} of {runs}"):
            try:
                monitor.bind(case.data()[0][0])
                monitor.fit(case.data())
                monitor.score(case.x)
            except (error, DataError) as raised:
                assert isinstance(raised, error) or isinstance(raised.__cause__, error), raised
            else:
                raise AssertionError(f"{error.__name__} in forward {run} of {runs} was swallowed")
        assert left[0] == 0, "the model ran on after it raised"
        left[0] = 10**9
    case.agree(case.fitted(model).score(case.x), case.scores, "after the errors")


def _lived_in(case: Case) -> nn.Module:
    """A model as users have them: some parts in training mode, gradients on some parameters.

    It draws random numbers in its forward, as samplers do; not so beside other threads, where the
    generator is not set back.
    """
    model = case.network.model()
    model.register_forward_hook(_draw)
    for i, module in enumerate(model.modules()):
        module.training = i % 3 != 1
    for i, parameter in enumerate(model.parameters()):
        if i % 2 == 0 and parameter.requires_grad:
            parameter.grad = torch.full_like(parameter, 0.5)
    return model


def _draw(*_: object) -> None:
    if only_thread():
        torch.rand(1)


def _names_a_layer(case: Case) -> bool:
    """Whether an option names a layer or parameter, whose name a wrapper would change."""
    known = {name for name, _ in case.model.named_modules()}
    known |= {name for name, _ in case.model.named_parameters()}
    options = case.detector.options().values()
    given = [v for o in options for v in (o if isinstance(o, list | tuple) else [o])]
    return any(isinstance(value, str) and value in known for value in given)
