"""Region maps: what they sum to, where they point, what is refused."""

import pytest
import torch
from torch import nn

import gradood
from gradood.attribution._cuts import cuts, default_places
from gradood.attribution._grid import grid_of, upsampled
from gradood.attribution._occlusion import covered
from gradood.errors import ConfigError, DataError, NotFittedError, TapError, UnknownNameError


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return torch.relu(x + self.conv(x))


class Pooled(nn.Module):
    """Two blocks on 8×8 positions, and the mean over them."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.block1, self.block2 = Residual(6), Residual(6)
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(self.block2(self.block1(self.stem(x))).mean((2, 3)))


class Tokens(nn.Module):
    """A transformer on 2×2 patches, with a class token or the mean over the patches."""

    def __init__(self, *, token=True):
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 2, stride=2)
        self.start = nn.Parameter(torch.randn(1, 1, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.blocks = nn.ModuleList(
            [layer, nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)]
        )
        self.head = nn.Linear(8, 3)
        self.token = token

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        if self.token:
            x = torch.cat([self.start.expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0] if self.token else x.mean(1))


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.word = nn.Embedding(30, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, input_ids, attention_mask):
        x = self.block(self.word(input_ids), src_key_padding_mask=attention_mask == 0)
        kept = attention_mask[..., None].to(x.dtype)
        return self.head((x * kept).sum(1) / kept.sum(1))


@pytest.fixture(scope="module")
def images():
    return torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def fitted(model, names, images, **options):
    torch.manual_seed(1)
    labels = torch.arange(len(images)) % 3
    return gradood.Monitor(model.eval(), names, **options).fit([(images, labels)])


def given(method, known):
    """The known inputs, for the methods that take some."""
    return {"known": known} if method in ("channels", "known") else {}


@pytest.fixture(scope="module")
def pooled(images):
    torch.manual_seed(0)
    return fitted(Pooled(), ["energy", "knn", "mahalanobis++", "nci", "gram"], images)


@pytest.mark.parametrize(
    ("method", "detector"),
    [
        *(("path", name) for name in ("energy", "knn", "mahalanobis++", "nci")),
        *(("channels", name) for name in ("energy", "knn", "mahalanobis++", "nci")),
    ],
)
def test_contributions_sum_to_the_score_less_the_reference(pooled, images, detector, method):
    found = gradood.region_map(
        pooled, images[:4], method=method, detector=detector, **given(method, images)
    )
    score = pooled.score(images[:4])[detector]
    # Where the nearest neighbor or class changes along the path, the score has a kink.
    share = 1e-5 if method == "channels" else 0.05 if detector == "energy" else 0.3
    torch.testing.assert_close(found.score, score, rtol=1e-5, atol=1e-6)
    for name, gap in found.gap.items():
        moved = found.score - found.reference[name]
        assert float(moved.abs().max()) > 1e-4
        assert float(gap.abs().max()) < share * float(moved.abs().max()), name


@pytest.mark.parametrize("method", ["path", "channels", "occlusion"])
def test_activations_in_place_change_no_map(method):
    def network(*, inplace):
        torch.manual_seed(0)
        layers = (nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace), nn.Conv2d(6, 6, 3, padding=1))
        ending = (nn.ReLU(inplace), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
        return nn.Sequential(*layers, *ending).eval()

    x = torch.randn(3, 3, 8, 8)
    known = [x] if method == "channels" else None
    one, other = (
        gradood.region_map(gradood.Monitor(made, "energy"), x, method=method, known=known)
        for made in (network(inplace=False), network(inplace=True))
    )
    torch.testing.assert_close(one.pixels, other.pixels)


def test_shares_of_the_last_map_are_those_of_its_units(images):
    """Where the score is linear in the features, a position has its activations times the slope."""
    torch.manual_seed(0)
    model = Pooled().eval()
    monitor = gradood.Monitor(model, gradood.MaxLogit())
    low = next(
        iter(gradood.region_map(monitor, images[:5], method="channels", known=images).low.values())
    )
    with torch.no_grad():
        tensor = model.block2(model.block1(model.stem(images[:5]))).double()
        logits = model(images[:5])
        weight = model.fc.weight.double()
        mean = model.block2(model.block1(model.stem(images))).mean((0, 2, 3)).double()
    # Between features of the same class, the largest logit is a line.
    same = (mean @ weight.T + model.fc.bias).argmax() == logits.argmax(1)
    assert bool(same.any())
    away = tensor - mean[:, None, None]
    expected = -torch.einsum("nchw,nc->nhw", away, weight[logits.argmax(1)]) / 64
    torch.testing.assert_close(low[same], expected[same], rtol=1e-4, atol=1e-7)


def test_the_place_that_makes_the_score_is_found(images):
    """The score rises with one bright corner alone."""

    class Corner(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.fc = nn.Linear(4, 2)
            nn.init.constant_(self.conv.weight, 0.3)
            nn.init.constant_(self.conv.bias, -1.0)
            nn.init.constant_(self.fc.weight, -1.0)

        def forward(self, x):
            return self.fc(torch.relu(self.conv(x)).mean((2, 3)))

    monitor = gradood.Monitor(Corner().eval(), "energy")
    x = images[:3] * 0.01
    x[:, :, 5, 2] += 9
    for method in ("path", "channels"):
        assert (
            gradood.region_map(monitor, x, method=method, **given(method, images)).peak.tolist()
            == [[5, 2]] * 3
        ), method
    peaks = gradood.region_map(monitor, x, method="occlusion").peak
    assert bool(((peaks - torch.tensor([5, 2])).abs() <= 1).all())


def test_known_positions_tell_a_strange_place(pooled, images):
    x = 0.1 * images[:3]
    x[:, :, 2, 6] = 8
    found = gradood.region_map(pooled, x, method="known", detector="energy", known=0.1 * images)
    assert bool(((found.peak - torch.tensor([2, 6])).abs() <= 1).all())
    ordinary = gradood.region_map(
        pooled, 0.1 * images, method="known", detector="energy", known=0.1 * images
    )
    assert 0.3 < float(ordinary.pixels.mean()) < 1.05


def test_class_tokens_are_left_out_and_patches_lie_where_they_were(images):
    torch.manual_seed(0)
    monitor = gradood.Monitor(Tokens().eval(), "energy")
    found = gradood.region_map(monitor, images[:4])
    assert {v.shape[1:] for v in found.low.values()} == {(4, 4)}
    for name, gap in found.gap.items():
        moved = (found.score - found.reference[name]).abs().max()
        assert float(gap.abs().max()) < 0.02 * float(moved)
    assert found.pixels.shape == (4, 8, 8)
    with pytest.raises(TapError, match=r'no mean over positions.*method="path"'):
        gradood.region_map(monitor, images[:4], method="channels", known=images)


def test_the_mean_over_patches_is_shared_exactly(images):
    torch.manual_seed(0)
    monitor = gradood.Monitor(Tokens(token=False).eval(), "energy")
    found = gradood.region_map(monitor, images[:4], method="channels", known=images)
    assert max(float(gap.abs().max()) for gap in found.gap.values()) < 1e-5


@pytest.mark.parametrize("method", ["path", "channels", "occlusion"])
def test_texts_are_mapped_by_tokens_and_padding_has_none(method):
    torch.manual_seed(0)
    ids = torch.randint(1, 30, (6, 7))
    mask = torch.ones_like(ids)
    mask[2, 4:] = 0
    monitor = gradood.Monitor(Text().eval(), "energy")
    batch = {"input_ids": ids, "attention_mask": mask}
    found = gradood.region_map(monitor, batch, method=method, **given(method, [batch]))
    assert found.tokens.shape == (6, 7)
    assert bool((found.tokens[2, 4:] == 0).all())
    assert found.peak.shape == (6,)
    alone = {"input_ids": ids[2:3, :4], "attention_mask": mask[2:3, :4]}
    other = gradood.region_map(monitor, alone, method=method, **given(method, [batch]))
    torch.testing.assert_close(found.tokens[2, :4], other.tokens[0], rtol=1e-3, atol=1e-5)
    longer = {"input_ids": torch.randint(1, 30, (2, 9)), "attention_mask": torch.ones(2, 9).long()}
    assert gradood.region_map(
        monitor, longer, method=method, **given(method, [batch])
    ).tokens.shape == (2, 9)
    with pytest.raises(DataError, match="differ in shape"):
        gradood.region_map(monitor, [alone, longer], method=method, **given(method, [batch]))
    with pytest.raises(DataError, match="no images"):
        _ = found.pixels


def test_rows_do_not_depend_on_their_batch_and_bad_ones_are_nan(pooled, images):
    x = images[:5].clone()
    x[1, 0, 0, 0] = torch.nan
    found = gradood.region_map(pooled, x, detector="energy")
    assert bool(found.pixels[1].isnan().all()) and not bool(
        found.pixels[[0, 2, 3, 4]].isnan().any()
    )
    alone = gradood.region_map(pooled, x[3:4], detector="energy")
    torch.testing.assert_close(found.pixels[3], alone.pixels[0], rtol=1e-3, atol=1e-6)
    several = gradood.region_map(pooled, [x[:2], x[2:]], detector="energy")
    torch.testing.assert_close(found.pixels, several.pixels, rtol=1e-3, atol=1e-6, equal_nan=True)


def test_the_model_is_left_as_it_was(pooled, images):
    model = pooled.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradood.region_map(pooled, images[:2], detector="energy")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_several_detectors_are_mapped_on_a_common_scale(images):
    more = torch.randn(90, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    torch.manual_seed(0)
    monitor = fitted(Pooled(), ["energy", "nci"], images, combine="fisher")
    with pytest.raises(ConfigError, match="2 detectors and no calibration"):
        gradood.region_map(monitor, more[:2])
    monitor.calibrate(more)
    found = gradood.region_map(monitor, more)
    assert found.detector == "energy + nci"
    assert float(found.score.median()) == pytest.approx(0, abs=1)
    parts = [gradood.region_map(monitor, more, detector=name) for name in monitor.detectors]
    weights = []
    for name in monitor.detectors:
        scores = monitor._session.state.rule.each[name].scores
        weights.append(float(1 / (scores.quantile(0.95) - scores.median())))
    total = sum(weight * part.pixels for weight, part in zip(weights, parts, strict=True))
    torch.testing.assert_close(found.pixels, total, rtol=1e-4, atol=1e-6)


def test_a_guard_is_mapped_as_its_monitor(images):
    torch.manual_seed(0)
    guard = gradood.guard(Pooled().eval(), images, detectors="energy")
    found = gradood.region_map(guard, images[:2])
    torch.testing.assert_close(found.pixels, gradood.region_map(guard.monitor, images[:2]).pixels)


def test_remembered_features_are_the_reference(pooled, images):
    monitor = gradood.Monitor(pooled.model, "energy")
    with pytest.raises(ConfigError, match=r"call monitor\.remember"):
        gradood.region_map(monitor, images[:2], method="channels")
    given = gradood.region_map(monitor, images[:2], method="channels", known=images)
    monitor.remember(images)
    found = gradood.region_map(monitor, images[:2], method="channels")
    torch.testing.assert_close(found.low["block2"], given.low["block2"])
    monitor.calibrate(torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(4)))
    for low, why in zip(
        found.low["block2"], monitor.explain(images[:2], reference="mean"), strict=True
    ):
        assert float(low.sum()) == pytest.approx(float(why.contributions["energy"].units.sum()))


def test_what_cannot_be_mapped_says_so(pooled, images):
    with pytest.raises(ConfigError, match="did you mean 'path'"):
        gradood.region_map(pooled, images, method="paths", detector="energy")
    with pytest.raises(UnknownNameError, match="did you mean 'energy'"):
        gradood.region_map(pooled, images, detector="enrgy")
    with pytest.raises(TapError, match=r'gram reads more than.*method="occlusion"'):
        gradood.region_map(pooled, images, detector="gram")
    assert gradood.region_map(pooled, images[:1], detector="gram", method="occlusion").size == (
        8,
        8,
    )
    with pytest.raises(
        ConfigError, match='known= are in-distribution inputs for method="known" and "channels"'
    ):
        gradood.region_map(pooled, images, detector="energy", method="known")
    with pytest.raises(ConfigError, match="layers= are those of"):
        gradood.region_map(
            pooled, images, detector="energy", method="channels", layers=["stem"], known=images
        )
    with pytest.raises(TapError, match=r"'fc' gives .* has no positions"):
        gradood.region_map(pooled, images, detector="energy", layers=["fc"])
    with pytest.raises(NotFittedError):
        gradood.region_map(gradood.Monitor(pooled.model, "knn"), images)
    with pytest.raises(DataError, match="no input"):
        gradood.region_map(pooled, images[:0], detector="energy")
    flat = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    with pytest.raises(TapError, match=r'no layer of this model.*method="occlusion"'):
        gradood.region_map(gradood.Monitor(flat, "energy"), images)


@pytest.mark.parametrize(("bits", "method"), [(8, "path"), (32, "channels")])
def test_banks_too_large_for_one_product_are_mapped_as_others(images, monkeypatch, bits, method):
    """Coded or not: a bank has a gradient, whether it is searched at once or by blocks."""
    torch.manual_seed(0)
    fit = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(7))
    monitor = gradood.Monitor(Pooled().eval(), gradood.KNN(k=3, bits=bits), progress=False)
    monitor.fit([fit])
    known = {"known": fit} if method == "channels" else {}
    whole = gradood.region_map(monitor, images[:3], method=method, **known)
    monkeypatch.setattr("gradood.detectors.knn._DENSE", 0)
    parts = gradood.region_map(monitor, images[:3], method=method, **known)
    assert bool((whole.pixels != 0).any())
    assert torch.allclose(whole.pixels, parts.pixels, rtol=1e-4, atol=1e-7)


def test_scores_with_roots_of_zero_have_maps(images):
    """The angle with the predicted class's own boundary is a root of zero, at any input."""
    torch.manual_seed(0)
    model = Pooled().eval()
    monitor = gradood.Monitor(model, "ora", progress=False).fit([images])
    found = gradood.region_map(monitor, images[:3])
    assert bool(found.pixels.isfinite().all()) and bool((found.pixels != 0).any())


def test_a_sum_over_layers_is_no_share_of_the_last_map(images):
    monitor = gradood.Monitor(Pooled().eval(), "gram", progress=False)
    monitor.fit([images])
    with pytest.raises(TapError, match=r'gram reads more than.*method="occlusion"'):
        gradood.region_map(monitor, images, method="channels", known=images)


def test_branches_are_no_cuts_and_the_pooled_map_is_no_default(pooled, images):
    network = pooled.bind(images).network
    assert {"block1", "block2"} == set(map(str, cuts(network, images)))
    assert [str(site) for site in default_places(network, images)] == ["block1"]


def test_grids():
    assert grid_of((5, 4, 6), 1, (8, 12)).rows == 4
    tokens = grid_of((197, 768), 2, (224, 224))
    assert (tokens.first, tokens.rows, tokens.columns) == (1, 14, 14)
    wide = grid_of((1 + 4 + 8, 16), 2, (32, 16))
    assert (wide.first, wide.rows, wide.columns) == (5, 4, 2)
    assert grid_of((10,), 1, (8, 8)) is None
    assert grid_of((5, 1, 1), 1, (8, 8)) is None
    text = grid_of((12, 16), 2, None)
    assert (text.rows, text.columns) == (1, 12)


def test_upsampling_keeps_the_place_and_a_constant():
    low = torch.zeros(1, 4, 4, dtype=torch.float64)
    low[0, 2, 1] = 1
    wide = upsampled(low, (32, 32))[0]
    row, column = divmod(int(wide.argmax()), 32)
    assert 16 <= row < 24 and 8 <= column < 16
    assert bool((upsampled(torch.ones(1, 3, 5), (9, 20)) == 1).all())


def test_a_covered_window_goes_on_from_its_edges():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    for window in ((slice(2, 5), slice(3, 6)), (slice(0, 2), slice(1, 4))):
        torch.testing.assert_close(covered(ramp, window), ramp)
    assert bool((covered(ramp, (slice(0, 8), slice(0, 8))) == 3.5).all())


@pytest.mark.parametrize("method", ["channels", "known"])
def test_known_inputs_that_are_not_finite_are_refused(pooled, images, method):
    known = images.clone()
    known[2] = float("nan")
    with pytest.raises(DataError, match="known"):
        gradood.region_map(pooled, images[:2], method=method, detector="energy", known=known)


OVERFLOW = torch.full((2, 3, 8, 8), 3e38)


@pytest.mark.parametrize("method", ["channels", "known"])
def test_known_inputs_that_the_model_overflows_on_are_refused(pooled, images, method):
    known = [images[:5], OVERFLOW]
    with pytest.raises(DataError, match="the model makes NaN or infinity"):
        gradood.region_map(pooled, images[:2], method=method, detector="energy", known=known)


@pytest.mark.parametrize(
    ("method", "bad"),
    [("path", OVERFLOW * torch.nan), ("channels", OVERFLOW * torch.nan), ("known", OVERFLOW)],
)
def test_a_batch_of_which_nothing_is_finite_has_a_map_of_nan(pooled, images, method, bad):
    options = {"method": method, "detector": "energy", **given(method, images)}
    alone = gradood.region_map(pooled, images[:2], **options)
    for batches, nan in (([bad, images[:2]], slice(0, 2)), ([images[:2], bad], slice(2, 4))):
        found = gradood.region_map(pooled, batches, **options)
        sound = slice(2, 4) if nan.start == 0 else slice(0, 2)
        assert bool(found.pixels[nan].isnan().all()) and bool((~found.score[nan].isfinite()).all())
        assert torch.equal(found.pixels[sound], alone.pixels)
        assert torch.equal(found.peak[sound], alone.peak)
    with pytest.raises(DataError, match="of 2 inputs none is finite"):
        gradood.region_map(pooled, bad, **options)


def test_single_pixels_have_one_share_or_say_that_there_is_no_place(pooled, images):
    pixels = images[:2, :, :1, :1]
    found = gradood.region_map(pooled, pixels, method="channels", detector="energy", known=images)
    assert found.pixels.shape == (2, 1, 1)
    assert float(max(gap.abs().max() for gap in found.gap.values())) < 1e-6
    with pytest.raises(TapError, match="holds positions"):
        gradood.region_map(pooled, pixels, detector="energy")


def test_arguments_of_other_types_are_named(pooled, images):
    for options, said in (
        ({"layers": []}, "layers=a list; expected one or more names"),
        ({"layers": 5}, "layers=5; expected"),
        ({"layers": "block1"}, "layers='block1'; expected"),
        ({"detector": 5}, "detector=5; expected the name"),
        ({"method": None}, "method=None; "),
    ):
        with pytest.raises(ConfigError, match=said):
            gradood.region_map(pooled, images, **({"detector": "energy"} | options))
    for given in (Pooled(), gradood.Monitor, None):
        with pytest.raises(ConfigError, match="expected a monitor or a guard"):
            gradood.region_map(given, images)
