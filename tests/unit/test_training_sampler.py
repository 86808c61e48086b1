import pytest
import torch

from gradood.errors import ConfigError, DataError
from gradood.training import Candidates, ClusterEnergySampler
from gradood.training.sampler import kmeans


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(k: int, per: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tight groups in directions at right angles."""
    truth = torch.arange(k * per) % k
    features = 5.0 * torch.eye(k)[truth] + 0.05 * torch.randn(k * per, k)
    return features, truth


def test_kmeans_finds_groups_that_are_apart():
    features, truth = blobs(7, 11)
    cluster = kmeans(features, 7, generator=seeded())
    pairs = {(int(a), int(b)) for a, b in zip(truth, cluster, strict=True)}
    assert len(pairs) == 7


def test_kmeans_assigns_every_point_to_its_nearest_mean():
    points = torch.randn(200, 5)
    cluster = kmeans(points, 9, generator=seeded(), iterations=200)
    means = torch.stack([points[cluster == c].mean(0) for c in range(9)])
    nearest = torch.cdist(points, means).argmin(1)
    assert torch.equal(nearest, cluster)


def test_kmeans_of_points_that_coincide():
    cluster = kmeans(torch.ones(6, 2), 4, generator=seeded())
    assert cluster.shape == (6,)
    assert int(cluster.max()) < 4


def test_kmeans_draws_from_its_generator_alone():
    points = torch.randn(50, 3)
    before = torch.get_rng_state()
    first = kmeans(points, 5, generator=seeded(4))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, kmeans(points, 5, generator=seeded(4)))


@pytest.mark.parametrize(("points", "k"), [(torch.zeros(3, 2), 4), (torch.zeros(3), 1)])
def test_kmeans_needs_as_many_points(points, k):
    with pytest.raises(DataError, match=r"expected \(n, d\) points with n ≥ k ≥ 1"):
        kmeans(points, k, generator=seeded())


def test_kmeans_refuses_what_is_not_finite():
    with pytest.raises(DataError, match=r"not finite"):
        kmeans(torch.full((3, 2), torch.nan), 2, generator=seeded())


def test_lowest_and_highest_energy_of_each_cluster_are_chosen():
    features, truth = blobs(8, 6)
    energy = torch.randn(48)
    chosen = ClusterEnergySampler().choose(Candidates(features, energy), 8, generator=seeded())
    expected = set()
    for group in range(8):
        members = (truth == group).nonzero()[:, 0]
        expected |= {int(members[energy[members].argmin()])}
        expected |= {int(members[energy[members].argmax()])}
    assert set(chosen.tolist()) == expected
    assert chosen.shape == (16,)


def test_one_way_takes_the_lowest_and_fills_up():
    features, truth = blobs(8, 6)
    energy = torch.randn(48)
    sampler = ClusterEnergySampler(two_way=False)
    chosen = sampler.choose(Candidates(features, energy), 8, generator=seeded())
    members = [(truth == group).nonzero()[:, 0] for group in range(8)]
    lowest = {int(group[energy[group].argmin()]) for group in members}
    assert set(chosen[:8].tolist()) == lowest
    assert len(set(chosen.tolist())) == 16


@pytest.mark.parametrize("kind", ["random", "ties", "single", "coincide"])
def test_always_exactly_twice_as_many_all_different(kind):
    count, n_id = 60, 10
    features = torch.ones(count, 4) if kind == "coincide" else torch.randn(count, 4)
    energy = torch.zeros(count) if kind == "ties" else torch.randn(count)
    if kind == "single":
        features[1:] = features[1] * torch.rand(count - 1, 1)  # One direction, one apart.
    chosen = ClusterEnergySampler().choose(Candidates(features, energy), n_id, generator=seeded())
    assert chosen.shape == (20,)
    assert len(set(chosen.tolist())) == 20
    assert 0 <= int(chosen.min()) and int(chosen.max()) < count


def test_the_same_seed_chooses_the_same():
    given = Candidates(torch.randn(60, 4), torch.randn(60))
    a, b, c = (
        ClusterEnergySampler().choose(given, 10, generator=seeded(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_the_length_of_features_has_no_part_in_it():
    features, energy = torch.randn(60, 4), torch.randn(60)
    longer = features * torch.rand(60, 1).add(0.1)
    a, b = (
        set(ClusterEnergySampler().choose(Candidates(f, energy), 9, generator=seeded()).tolist())
        for f in (features, longer)
    )
    assert len(a & b) >= 17


def test_too_few_candidates_are_refused():
    given = Candidates(torch.randn(19, 4), torch.randn(19))
    with pytest.raises(DataError, match=r"19 candidates for 10 known .* at least 20"):
        ClusterEnergySampler().choose(given, 10, generator=seeded())
    with pytest.raises(ConfigError, match=r"candidates_per_id=1; expected at least 2"):
        ClusterEnergySampler(candidates_per_id=1)
    with pytest.raises(DataError, match=r"expected \(n, width\), \(n,\)"):
        ClusterEnergySampler().choose(
            Candidates(torch.randn(8, 2), torch.randn(9)), 2, generator=seeded()
        )


@pytest.mark.gpu
def test_a_cuda_device_gives_what_the_cpu_gives():
    features, energy = blobs(8, 6)[0], torch.randn(48)
    here, there = (
        ClusterEnergySampler().choose(
            Candidates(features.to(d), energy.to(d)), 8, generator=seeded()
        )
        for d in ("cpu", "cuda")
    )
    assert torch.equal(here, there.cpu())
