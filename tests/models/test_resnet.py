"""The residual network: its shape, and what a pass through it costs."""

import torch
from torch import nn
from torch.nn import functional as F

from mergekit_nb.models.flops import flops
from mergekit_nb.models.resnet import Block, ResNet


def test_resnet20_has_nineteen_convolutions_on_the_way_and_one_linear_layer():
    net = ResNet()
    on_the_way = [n for n, m in net.named_modules() if isinstance(m, nn.Conv2d) and "shortcut" not in n]
    assert len(on_the_way) == 19
    assert [tuple(net.get_submodule(f"layer{k}.0.conv2").weight.shape[:2]) for k in (1, 2, 3)] == [
        (16, 16), (32, 32), (64, 64)
    ]  # fmt: skip


def test_pictures_become_outputs():
    net = ResNet(widths=(2, 3, 5), blocks=(1, 2, 1), outputs=7, channels=1, stride=2).eval()
    x = torch.randn(2, 1, 12, 12)
    assert net(x).shape == (2, 7)
    assert torch.equal(net(x), net.encode_image(x))


def test_only_a_block_that_changes_the_shape_has_a_convolution_around_it():
    assert len(Block(4, 4, 1).shortcut) == 0
    for channels, wide, stride in ((4, 8, 2), (4, 4, 2), (4, 8, 1)):
        block = Block(channels, wide, stride)
        assert block.shortcut[0].kernel_size == (3, 3)
        assert block(torch.randn(1, channels, 8, 8)).shape == (1, wide, 8 // stride, 8 // stride)


def test_a_block_without_weights_inside_is_the_identity_of_what_is_positive():
    block = Block(3, 3, 1).eval()
    nn.init.zeros_(block.bn2.weight)
    x = torch.randn(1, 3, 4, 4)
    assert torch.equal(block(x), F.relu(x))


def test_flops_of_a_convolution_and_a_linear_layer_by_hand():
    # 5 outputs of 6 x 6, each 3 x 3 x 2 multiplications and as many additions; then 180 numbers into 4
    net = nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(180, 4))
    assert flops(net, torch.randn(3, 2, 8, 8)) == 3 * 2 * (5 * 36 * 18 + 180 * 4)
    assert net.training
    assert net[1].num_batches_tracked == 0
