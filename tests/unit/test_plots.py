"""Plots: what is drawn, on which axes, and what is refused."""

import sys

import pytest
import torch
from torch import nn

import gradood
from gradood import plots
from gradood.errors import ConfigError, DataError

GENERATOR = torch.Generator().manual_seed(2)
KNOWN = torch.randn(300, generator=GENERATOR).double()
FAR = torch.randn(200, generator=GENERATOR).double() + 2
FAR[0] = torch.inf


@pytest.fixture
def ax():
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    return Figure().subplots()


@pytest.fixture(scope="module")
def results():
    torch.manual_seed(0)
    x = torch.randn(120, 3, 2, 2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).eval()
    monitor = gradood.Monitor(model, ["energy", "msp"], combine="fisher").calibrate(x[:80])
    return monitor.predict(x[80:]), monitor.predict(3 * x[:30])


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_a_roc_curve_has_the_area_it_says(ax):
    assert plots.plot_roc(KNOWN, FAR, ax=ax) is ax
    x, y = ax.lines[0].get_data()
    area = ((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum()
    assert area == pytest.approx(gradood.metrics.auroc(KNOWN, FAR), abs=1e-3)
    assert labels(ax) == [f"AUROC {100 * area:.1f}"]
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)


def test_a_roc_curve_of_each_method_and_of_the_combination(ax, results):
    plots.plot_roc(*results, ax=ax)
    assert [label.split(":")[0] for label in labels(ax)] == ["energy", "msp", "combined"]
    assert len({line.get_color() for line in ax.lines[:3]}) == 3
    assert len({line.get_linestyle() for line in ax.lines[:3]}) == 3


def test_many_samples_are_drawn_by_few_points(ax):
    plots.plot_roc(torch.randn(50_000), torch.randn(50_000) + 1, ax=ax)
    assert len(ax.lines[0].get_xdata()) <= 1000


def test_histograms_hold_every_sample(ax):
    plots.plot_scores(KNOWN, {"far": FAR}, threshold=1.0, ax=ax)
    for patch in ax.patches[1::2]:
        assert patch.get_data().values.sum() == pytest.approx(100)
    assert labels(ax) == ["in-distribution (300)", "far (200)", "threshold 1"]


@pytest.mark.parametrize("scores", [torch.zeros(4), torch.full((4,), torch.inf)])
def test_scores_that_are_all_alike_can_be_drawn(ax, scores):
    plots.plot_scores(scores, scores, ax=ax)
    plots.plot_roc(scores, scores, ax=ax)


def test_a_curve_is_the_share_flagged_at_each_rate(ax, results):
    known, far = results
    plots.plot_curve({"new": known["energy"], "far": far["energy"]}, ax=ax)
    rates, shares = ax.lines[0].get_data()
    p = known["energy"].p_value
    for rate, share in list(zip(rates, shares, strict=True))[300::200]:
        assert share == float((p <= rate).double().mean())
    assert labels(ax) == ["new", "far", "the promise"]


def test_a_curve_of_a_combined_monitor_is_that_of_its_decision(ax, results):
    known, far = results
    plots.plot_curve({"new": known, "far": far[:9]}, ax=ax)
    rates, shares = ax.lines[0].get_data()
    assert shares[500] == float((known.p_value <= rates[500]).double().mean())
    assert labels(ax) == ["new", "far", "the promise"]
    plots.plot_curve(far[:9], ax=ax)
    with pytest.raises(DataError, match="choose one"):  # A statistic is no score of a detector.
        plots.plot_scores(known["energy"], {"far": far}, ax=ax)


def test_a_figure_is_made_where_there_are_no_axes(ax, results):
    import matplotlib

    with matplotlib.rc_context({"backend": "agg"}):
        from matplotlib import pyplot

        before = dict(matplotlib.rcParams)
        made = plots.plot_curve(results[1])
        assert dict(matplotlib.rcParams) == before and made.figure is not ax.figure
        pyplot.close(made.figure)


def test_what_cannot_be_drawn_is_refused(ax, results):
    known, far = results
    with pytest.raises(DataError, match="the same methods"):
        plots.plot_roc(known, far["energy"], ax=ax)
    with pytest.raises(DataError, match="choose one"):
        plots.plot_scores(known, far["energy"], ax=ax)
    with pytest.raises(DataError, match="empty"):
        plots.plot_roc({}, {}, ax=ax)
    with pytest.raises(DataError, match="no p-values"):
        plots.plot_curve(FAR, ax=ax)
    with pytest.raises(ConfigError, match="bins=0"):
        plots.plot_scores(KNOWN, FAR, bins=0, ax=ax)
    with pytest.raises(ConfigError, match="expected matplotlib axes"):
        plots.plot_roc(KNOWN, FAR, ax=3)


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ModuleNotFoundError, match="pip install matplotlib"):
        plots.plot_roc(KNOWN, FAR)


def test_regions_are_drawn_over_the_image_with_a_cross_at_the_peak(ax):
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    ).eval()
    images = torch.rand(3, 3, 8, 8, generator=GENERATOR)
    found = gradood.region_map(gradood.Monitor(model, "energy"), images)
    assert plots.plot_regions(found, images, row=1, ax=ax) is ax
    picture, overlay = (image.get_array() for image in ax.images)
    assert picture.shape == (8, 8) and overlay.shape == (8, 8, 4)
    row, column = found.peak[1].tolist()
    assert ax.lines[0].get_xydata().tolist() == [[column, row]]
    assert overlay[row, column, 3] <= 0.75
    with pytest.raises(DataError, match="expected the 3 of the map"):
        plots.plot_regions(found, images[:2], ax=ax)
