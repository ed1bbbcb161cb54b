"""Wide ResNets WRN-d-k (Zagoruyko and Komodakis, 2016): pre-activation, basic blocks."""

from __future__ import annotations

from torch import Tensor, nn

from .initialization import initialize
from .network import Network

__all__ = ["WideResNet", "wide_resnet"]


class WideBlock(nn.Module):
    """Two 3x3 convolutions, each after its norm; a 1x1 shortcut where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        changed = stride != 1 or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if changed else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""
        h = self.relu(self.bn1(x))
        # A shortcut with weights starts from the normalized activations, one without from x.
        kept = x if self.shortcut is None else self.shortcut(h)
        return self.conv2(self.relu(self.bn2(self.conv1(h)))) + kept


class WideResNet(nn.Module):
    """A wide residual network for small images.

    Args:
        depth: 6n + 4, with n blocks in each of three stages.
        factor: k, the factor of the three stages' channels 16, 32 and 64.
        classes: Number of classes.
        in_channels: Channels of the images.
        width: Factor of all channel counts, the stem's too.
    """

    def __init__(
        self, depth: int, factor: int, *, classes: int, in_channels: int, width: float
    ) -> None:
        super().__init__()
        inputs = round(16 * width)
        self.conv1 = nn.Conv2d(in_channels, inputs, 3, padding=1, bias=False)
        for stage in range(3):
            outputs = round(16 * factor * width) * 2**stage
            blocks = []
            for number in range((depth - 4) // 6):
                blocks.append(WideBlock(inputs, outputs, 2 if stage and not number else 1))
                inputs = outputs
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.bn = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(inputs, classes)
        initialize(self)

    def residual_blocks(self) -> list[nn.Module]:
        """Return all residual blocks in order."""
        stages = (self.get_submodule(f"layer{stage}") for stage in range(1, 4))
        return [block for stage in stages for block in stage.children()]

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to logits (B, classes)."""
        x = self.conv1(x)
        for block in self.residual_blocks():
            x = block(x)
        return self.fc(self.flatten(self.avgpool(self.relu(self.bn(x)))))


def wide_resnet(
    depth: int, factor: int, *, classes: int, in_channels: int = 3, width: float = 1.0
) -> Network:
    """Make WRN-depth-factor, which can be cut after each residual block.

    Args:
        depth: 6n + 4: 16, 22, 28, 34, 40, ...
        factor: k, the factor of the channels of the three stages.
        classes: Number of classes.
        in_channels: Channels of the images, which may have any size.
        width: Factor of all channel counts; 16 and 16k times it are rounded to whole numbers, half
            to even.

    Raises:
        ValueError: There is no such depth, or no channel is left.
    """
    if depth < 10 or (depth - 4) % 6 or factor < 1:
        raise ValueError(
            f"there is no wrn{depth}-{factor}: the depth is 6n + 4 (10, 16, 22, 28, 34, 40, ...) "
            "and the factor at least 1"
        )
    if round(16 * width) < 1:
        raise ValueError(f"model.width={width} leaves no channel of 16; give at least 1/16")
    module = WideResNet(depth, factor, classes=classes, in_channels=in_channels, width=width)
    first, *others = module.residual_blocks()
    return Network(
        f"wrn{depth}-{factor}",
        module,
        (nn.Sequential(module.conv1, first), *others),
        nn.Sequential(module.bn, module.relu, module.avgpool, module.flatten, module.fc),
        features=round(16 * factor * width) * 4,
        reduction=1,
    )
