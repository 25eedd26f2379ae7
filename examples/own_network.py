"""LeNet-5 on MNIST with SAMT in place of Adam, the whole loop in view.

    python own_network.py           # all of MNIST, two epochs
    python own_network.py 5000      # that many training images

`am` must be installed, or its checkout be on PYTHONPATH. MNIST is read from the folder AM_DATA, or from ./data, and is
downloaded there if it is missing.
"""

import sys
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from am.data import load, prepare
from am.optim import SAMT


def lenet5() -> nn.Sequential:
    """LeNet-5 with ReLU and max-pooling: rows of 784 pixels in, 10 logits out."""
    features = [nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU()]
    head = [nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
    return nn.Sequential(nn.Unflatten(1, (1, 28, 28)), *features, nn.MaxPool2d(2), nn.Flatten(), *head)


def train(rows: int | None = None, epochs: int = 2, batch_size: int = 128, seed: int = 0) -> float:
    """Train on that many images (None: all); returns the accuracy on the test images."""
    torch.manual_seed(seed)
    data, net = prepare(load("mnist"), rows, inputs="standardised"), lenet5()

    def loss(batch: Tensor) -> Tensor:  # (B,) row numbers -> scalar
        return cross_entropy(net(data.x[batch]), data.y[batch])

    optimizer = SAMT(net, alpha0=0.1, beta=0.003, shape="row")
    for epoch in range(epochs):
        batches = torch.randperm(len(data.x)).split(batch_size)
        for batch, following in zip(batches, (*batches[1:], batches[0])):
            before = optimizer.step(partial(loss, batch), partial(loss, following))  # learns on the batch that follows
        with torch.no_grad():
            accuracy = (net(data.x_test).argmax(1) == data.y_test).double().mean().item()
        print(f"epoch {epoch + 1}: loss of the last batch {before:.4f}, test accuracy {accuracy:.4f}")
    return accuracy


if __name__ == "__main__":
    train(int(sys.argv[1]) if len(sys.argv) > 1 else None)
