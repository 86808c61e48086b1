"""The reference networks: shapes, names, and the accuracy of their published weights."""

import pytest
import torch
from torch import nn

from gradood.data import Preprocess, loader, open_images
from gradood.models import (
    REFERENCES,
    build,
    convnet_mnist,
    densenet101,
    digits_net,
    load_weights,
    resnet20,
    resnet56,
)

NETWORKS = [
    # factory, input, features, parameters, BatchNorms, head
    (convnet_mnist, (1, 28, 28), 50, 21_840, 0, "fc2"),
    (densenet101, (3, 32, 32), 342, 769_162, 99, "fc"),
    (digits_net, (1, 8, 8), 64, 72_666, 6, "head"),
    (resnet20, (3, 32, 32), 64, 269_722, 19, "linear"),
    (resnet56, (3, 32, 32), 64, 853_018, 55, "linear"),
]


@pytest.fixture(autouse=True)
def one_thread():
    """On operators this small, a second thread only waits for the first."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("factory", "shape", "features", "parameters", "norms", "head"), NETWORKS)
def test_shapes_sizes_and_head(factory, shape, features, parameters, norms, head):
    model = factory().eval()
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()) == norms
    leaves = {name: m for name, m in model.named_modules() if not list(m.children())}
    seen = []
    for name, module in leaves.items():
        module.register_forward_hook(lambda _, x, y, name=name: seen.append((name, x[0], y)))
    with torch.no_grad():
        logits = model(torch.rand(2, *shape))
    # Every layer runs once, and the head last.
    assert sorted(name for name, _, _ in seen) == sorted(leaves)
    name, h, z = seen[-1]
    assert name == head
    assert h.shape == (2, features)
    assert logits.shape == (2, 10)
    assert z is logits


@pytest.mark.parametrize(("factory", "head"), [(network[0], network[-1]) for network in NETWORKS])
def test_number_of_classes(factory, head):
    assert factory(7).get_submodule(head).out_features == 7


def test_resnet_shortcut_subsamples_and_pads_equally_on_both_sides():
    block = resnet20().layer2[0].eval()
    nn.init.zeros_(block.conv2.weight)  # Only the shortcut is left: the norm of 0 is 0.
    x = torch.rand(1, 16, 8, 8)
    with torch.no_grad():
        y = block(x)
    assert y.shape == (1, 32, 4, 4)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any()
    assert not y[:, 24:].any()


def test_densenet_layers_append_to_what_they_see():
    layer = densenet101().block2.layer[0].eval()
    x = torch.randn(2, 108, 4, 4)
    before = x.clone()
    with torch.no_grad():
        y = layer(x)
    assert y.shape == (2, 120, 4, 4)
    assert torch.equal(y[:, :108], before)


def test_digits_net_learns():
    model = digits_net(num_classes=4).train()
    x, y = torch.rand(64, 1, 8, 8), torch.arange(64) % 4
    x[torch.arange(64), 0, y] += 1.0
    weights = list(model.parameters())
    for _ in range(30):  # By hand, as importing torch.optim takes seconds.
        gradients = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= 0.3 * gradient
    with torch.no_grad():
        assert (model(x).argmax(1) == y).float().mean() > 0.95


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "images", "count", "low"),
    [
        ("convnet_mnist", "mnist_test", 2000, 0.985),
        ("densenet101", "cifar10_test", 50, 0.90),
        ("resnet20", "cifar10_test", 500, 0.88),
        ("resnet56", "cifar10_test", 200, 0.90),
    ],
)
def test_accuracy_of_the_published_weights(shared, name, images, count, low):
    reference = REFERENCES[name]
    model = load_weights(build(name), shared / "weights" / f"{reference.weights}.safetensors")
    model.eval()
    source = f"{shared / 'data' / images}.parquet[:{count}]"
    dataset = open_images(source, Preprocess(**reference.preprocess))
    right = 0
    with torch.inference_mode():
        for x, y in loader(dataset):
            right += int((model(x).argmax(1) == y).sum())
    assert low <= right / count <= low + 0.1
