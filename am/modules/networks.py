"""Networks of the module lane: LeNet-5, a small convolutional network and ResNet-20.

Each is a `torch.nn.Sequential` that takes images as the rows in which `am.data` lays them, (B, d0), and gives logits,
(B, classes). A child that owns parameters is a block: a layer, or in ResNet-20 the stem, a residual block or the head.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from am.data import DATASETS
from am.data import dataset as dataset_called
from am.errors import InputError, unknown

CLASSES = 10  # where nothing else is said
INITIALISATIONS = ("torch", "he")
STAND_IN = "digits"  # the embedded 8 x 8 images may be enlarged: profile smoke has no others


class Pixels(nn.Module):
    """Rows (B, d0) as images (B, C, height, width), the smaller stand-ins enlarged by repeating their pixels."""

    def __init__(self, given: tuple[int, ...], wanted: tuple[int, int, int]) -> None:
        super().__init__()
        self.given, self.wanted = (*given, 1)[:3], wanted

    def forward(self, x: Tensor) -> Tensor:
        images = x.unflatten(1, self.given).permute(0, 3, 1, 2)
        height, width, channels = self.wanted
        if self.given[:2] != (height, width):
            images = F.interpolate(images, size=(height, width), mode="nearest")
        return images.expand(-1, channels, -1, -1).contiguous()


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with BatchNorm beside a shortcut without parameters (He et al. 2016, option A)."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.stride, self.further = 1 + (channels != channels_in), channels - channels_in
        self.conv1 = _convolution(channels_in, channels, self.stride)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = _convolution(channels, channels)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        return F.relu(inner + F.pad(shortcut, (0, 0, 0, 0, 0, self.further)))


def _convolution(channels_in: int, channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)  # BatchNorm has the bias


def _lenet5(classes: int = CLASSES) -> list[nn.Module]:
    dense = [nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes)]
    first = [nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    return [*first, nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), *dense]


def _cnn(classes: int = CLASSES) -> list[nn.Module]:
    # Strides in place of pooling, which on a CPU costs more than the convolutions (Springenberg et al. 2015).
    layers: list[nn.Module] = []
    for channels_in, channels in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(channels_in, channels, 3, stride=2, padding=1), nn.ReLU()]
    dense = [nn.Linear(1024, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, classes)]
    return [*layers, nn.Flatten(), *dense]


def _resnet20(classes: int = CLASSES) -> list[nn.Module]:
    widths = (16, 16, 16, 16, 32, 32, 32, 64, 64, 64)
    stem = nn.Sequential(_convolution(3, 16), nn.BatchNorm2d(16), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))
    return [stem, *(ResidualBlock(a, b) for a, b in zip(widths, widths[1:])), head]


@dataclass(frozen=True)
class Network:
    """What is known of a network before it is built.

    shape: of its images, (height, width, channels).  hidden: channels or units that each block but the last gives.
    multiply_adds: of the products of a pass forward of one image.  units: numbers at the most that its layers give.
    """

    title: str
    shape: tuple[int, int, int]
    hidden: tuple[int, ...]
    layers: Callable[..., list[nn.Module]]  # given the number of classes
    multiply_adds: int
    units: int

    @property
    def parameters(self) -> int:
        """How many numbers it learns."""
        with torch.device("meta"):
            return sum(p.numel() for layer in self.layers() for p in layer.parameters())


NETWORKS = {
    # LeCun et al. 1998, with ReLU and max-pooling and dense where the original connects by a table.
    "lenet5": Network("LeNet-5", (28, 28, 1), (6, 16, 120, 84), _lenet5, 416_520, 16_000),
    "cnn": Network("CNN", (32, 32, 3), (16, 32, 64, 128, 64), _cnn, 840_320, 19_000),
    # He et al. 2016, arXiv 1512.03385: 269,722 parameters.
    "resnet20": Network("ResNet-20", (32, 32, 3), (16,) * 4 + (32,) * 3 + (64,) * 3, _resnet20, 40_551_040, 600_000),
}


def check_images(name: str, dataset: str) -> None:
    """Raises InputError where the network does not take the images of the data set."""
    given = dataset_called(dataset).shape
    sizes = [" x ".join(map(str, shape)) for shape in (NETWORKS[name].shape, (*given, 1)[:3])]
    if dataset != STAND_IN and sizes[0] != sizes[1]:
        fitting = [d.name for d in DATASETS.values() if (*d.shape, 1)[:3] == NETWORKS[name].shape]
        raise InputError(
            f"network '{name}' takes images of {sizes[0]}, and those of {dataset} are {sizes[1]}; "
            f"it trains {', '.join(fitting)}."
        )


def build(
    name: str,
    dataset: str,
    seed: int,
    init: str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    shape: tuple[int, ...] = (),
    classes: int = CLASSES,
) -> nn.Sequential:
    """The network with initial values that come from the seed alone, drawn on the CPU in float64, layer by layer.

    torch: weights and biases of convolutions and dense layers ~ U(-r, r), r = n^-1/2, n the inputs of a unit, the
    default of torch.nn.  he: weights ~ N(0, 2/n), biases 0.  BatchNorm begins at weight 1, bias 0.
    shape: of the images, as `Data` has it, where they are at hand; else that of the data set of the name.
    Raises InputError where the network does not take the data set's images, and for another initialisation.
    """
    if not shape:
        check_images(name, dataset)
        shape, classes = dataset_called(dataset).shape, dataset_called(dataset).classes
    if init not in INITIALISATIONS:
        raise unknown("initialisation", init, INITIALISATIONS, f"network '{name}'")
    network = nn.Sequential(Pixels(shape, NETWORKS[name].shape), *NETWORKS[name].layers(classes))
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            draw, n = torch.rand if init == "torch" else torch.randn, layer.weight[0].numel()
            for p in layer.parameters(recurse=False):
                drawn = draw(p.shape, generator=generator, dtype=torch.float64)
                p.data = (2 * drawn - 1) * n**-0.5 if init == "torch" else drawn * (2 / n) ** 0.5 * (p.dim() > 1)
    return network.to(device, dtype)


def network_blocks(network: nn.Sequential) -> Sequence[nn.Module]:
    """The blocks of alternation in their order: the children that own parameters."""
    return [child for child in network if any(True for _ in child.parameters())]
