import itertools
import random
from collections import Counter

import pytest
import torch
from torch.utils.data import TensorDataset

from gradood.errors import DataError
from gradood.training._distributed import Processes
from gradood.training._randomness import Order
from gradood.training._sample_form import label_of
from gradood.training._samples import Samples, augmented, image_of
from gradood.training._steps import StepBatches, Steps, learning_rate
from gradood.training._terms import Gradient, Loss
from gradood.training.recipe import Augment, Batch, Recipe, Sampling, Schedule


@pytest.mark.parametrize(("samples", "batch"), [(10, 4), (8, 4), (3, 8), (65, 64)])
def test_an_epoch_uses_every_sample_once(samples, batch):
    plan = Steps(samples=samples, batch=batch, epochs=3)
    counts = [plan.step(i).id_count for i in range(plan.total)]
    assert sum(counts) == 3 * samples
    order = Order(samples, seed=0, purpose="id")
    for epoch in range(3):
        positions = [
            s.id_start + i
            for s in map(plan.step, range(plan.total))
            if s.epoch == epoch
            for i in range(s.id_count)
        ]
        assert sorted(order[p] for p in positions) == list(range(samples))


def test_steps_end_a_run_early():
    plan = Steps(samples=10, batch=4, epochs=3, limit=5)
    assert plan.total == 5
    assert [plan.ends_epoch(i) for i in range(5)] == [False, False, True, False, True]


@pytest.mark.parametrize(("world", "accumulate"), list(itertools.product([1, 2, 3], [1, 2, 4])))
@pytest.mark.parametrize("samples", [1, 5, 64])
def test_the_parts_of_all_processes_are_the_step(world, accumulate, samples):
    step = Steps(samples=samples, batch=64, epochs=1).step(0)
    parts = [step.parts(rank, world, accumulate) for rank in range(world)]
    real = [part for of_rank in parts for part in of_rank if part.share]
    assert [i for part in real for i in range(part.start, part.stop)] == list(range(samples))
    assert sum(part.share for part in real) == pytest.approx(1)
    if world > 1:  # Each waits for the others as often.
        assert {len(of_rank) for of_rank in parts} == {accumulate}


@pytest.mark.parametrize(("world", "accumulate", "smallest"), [(1, 1, 3), (2, 1, 1), (1, 4, 1)])
def test_the_smallest_part_is_in_the_last_step(world, accumulate, smallest):
    plan = Steps(samples=19, batch=8, epochs=2)
    assert plan.smallest_part(world, accumulate) == smallest
    assert Steps(samples=19, batch=8, epochs=2, limit=2).smallest_part(1, 1) == 8


def test_an_order_is_endless_and_the_same_from_anywhere():
    order = Order(5, seed=3, purpose="aux")
    forward = [order[i] for i in range(23)]
    assert all(sorted(forward[i : i + 5]) == list(range(5)) for i in range(0, 20, 5))
    backward = [order[i] for i in reversed(range(23))]
    assert forward == backward[::-1]
    other = Order(5, seed=3, purpose="id")
    assert forward != [other[i] for i in range(23)]


def test_schedules():
    cosine = Schedule(kind="cosine", lr_min=1e-6, warmup=2)

    def rate(schedule: Schedule, step: int) -> float:
        return learning_rate(schedule, 0.1, step=step, total=102, steps_per_epoch=10)

    assert [rate(cosine, s) for s in (0, 1, 2)] == pytest.approx([0.05, 0.1, 0.1])
    assert rate(cosine, 52) == pytest.approx((0.1 + 1e-6) / 2)
    assert rate(cosine, 101) == pytest.approx(1e-6, abs=1e-4)
    steps = Schedule(kind="multi-step", milestones=(2, 4), gamma=0.1)
    assert [rate(steps, s) for s in (0, 19, 20, 39, 40)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.01, 0.001]
    )


def samples(n: int, purpose: str = "id", **options) -> Samples:
    dataset = TensorDataset(torch.arange(n)[:, None].float(), torch.arange(n))
    return Samples(dataset, range(n), purpose=purpose, seed=0, **options)


def clustered(**options) -> Recipe:
    return Recipe(
        name="x",
        method="greg",
        batch=Batch(id=4, aux_per_id=2, **options),
        loss=Loss(gradient=Gradient(m_in=0.0, m_out=1.0)),
        sampling=Sampling(kind="cluster-energy"),
    )


def feed(recipe: Recipe, n: int, m: int, world: Processes, epochs: int = 2) -> list:
    plan = Steps(samples=n, batch=recipe.batch.id, epochs=epochs)
    source = StepBatches(recipe, plan, samples(n), samples(m, "aux"), world)
    return list(source.batches(range(plan.total)))


@pytest.mark.parametrize("m", [8, 11, 30])
def test_outliers_of_any_number_never_end_an_epoch(m):
    recipe = Recipe(
        name="x",
        method="greg",
        batch=Batch(id=4, aux_per_id=2),
        loss=Loss(gradient=Gradient(m_in=0.0, m_out=1.0)),
    )
    known: Counter[int] = Counter()
    outliers: Counter[int] = Counter()
    for fed in feed(recipe, 10, m, Processes()):
        for (images, labels), others in zip(fed.known, fed.outliers, strict=True):
            assert images[:, 0].tolist() == labels.tolist()
            assert len(others) == 2 * len(images)
            known.update(labels.tolist())
            outliers.update(others[:, 0].int().tolist())
    assert known == dict.fromkeys(range(10), 2)
    assert sum(outliers.values()) == 40
    assert max(outliers.values()) - min(outliers[i] for i in range(m)) <= 1


def test_processes_see_together_what_one_sees():
    alone = feed(clustered(), 10, 30, Processes())
    several = [feed(clustered(), 10, 30, Processes(rank, 3)) for rank in range(3)]
    for i, fed in enumerate(alone):
        parts = [s[i] for s in several]
        pool = torch.cat([part.pool for part in parts])
        assert torch.equal(pool, fed.pool)
        real = [
            images
            for part in parts
            for piece, (images, _) in zip(part.parts, part.known, strict=True)
            if piece.share
        ]
        assert torch.equal(torch.cat(real), fed.known[0][0])


def test_candidates_run_through_the_outliers_without_a_gap():
    order = Order(30, seed=0, purpose="aux")
    seen = [int(v) for fed in feed(clustered(), 10, 30, Processes()) for v in fed.pool[:, 0]]
    assert seen == [order[position] for position in range(6 * 20)]
    starts = [fed.pool_start for fed in feed(clustered(), 10, 30, Processes())]
    assert starts == [0, 24, 48, 60, 84, 108]


def test_an_auxiliary_set_smaller_than_one_candidate_batch_is_refused():
    with pytest.raises(
        DataError, match=r"has 23 samples to train on; one step takes 24 candidates \(6 for each"
    ):
        feed(clustered(), 10, 23, Processes())


def test_workers_decode_the_same():
    given = samples(12, augment=Augment(crop_padding=0, flip=True))
    positions = [range(0, 5), range(5, 24)]
    here = list(given.batches(positions))
    there = list(given.batches(positions, workers=2))
    for a, b in zip(here, there, strict=True):
        assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


def test_drawing_leaves_the_global_generators_alone():
    given = samples(6, augment=Augment())
    before = torch.get_rng_state(), random.getstate()
    list(given.batches([range(6)]))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()


def test_augmentation_pads_with_black_and_keeps_the_size():
    image = torch.ones(3, 8, 8)
    black = torch.tensor([-1.0, -2.0, -3.0])
    seen = set()
    for seed in range(40):
        found = augmented(image, Augment(crop_padding=2, flip=False), random.Random(seed), black)
        assert found.shape == image.shape
        seen |= {tuple(found[:, 0, 0].tolist())}
        assert set(found[1].unique().tolist()) <= {1.0, -2.0}
    assert seen == {(1.0, 1.0, 1.0), (-1.0, -2.0, -3.0)}
    ramp = torch.arange(8.0).expand(3, 8, 8)
    flipped = {
        bool(augmented(ramp, Augment(crop_padding=0), random.Random(s), None)[0, 0, 0])
        for s in range(20)
    }
    assert flipped == {True, False}


def test_items_of_data_sets():
    image = torch.zeros(3, 2, 2)
    assert image_of({"pixel_values": image, "label": 3}) is image
    assert label_of({"pixel_values": image, "label": 3}) == 3
    assert image_of([image, 1]) is image
    assert image_of(image) is image
    assert label_of((image, torch.tensor(4))) == 4
    with pytest.raises(DataError, match=r"without an image tensor"):
        image_of({"other": image})
    for wrong in ((image,), (image, -1), (image, 0.5), (image, None), {"x": image}):
        with pytest.raises(DataError, match=r"expected a whole number ≥ 0"):
            label_of(wrong)


def test_images_of_different_sizes_are_told():
    images = [torch.zeros(3, 4 + i % 2, 4) for i in range(4)]
    given = Samples([(image, 0) for image in images], range(4), purpose="id", seed=0)
    with pytest.raises(DataError, match=r"differ in size: \(3, 4, 4\), \(3, 5, 4\)"):
        given.batch(range(4))
