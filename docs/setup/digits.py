"""The demo's network and images: model, train_loader, known, images, labels."""

from gradood.data import Preprocess, loader, open_images
from gradood.models import digits_net, load_weights

import gradood

model = load_weights(digits_net(8), "demo/weights.safetensors")
gray = Preprocess(mode="L")
train_loader = loader(open_images("demo/train[:400]", gray))
known = loader(open_images("demo/val", gray))
images, labels = next(iter(loader(open_images("demo/test[:16]", gray))))
