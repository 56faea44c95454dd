"""The causal convolution against PyTorch's own, with its first and second derivatives."""

import pytest
import torch

from model.hope.conv import CausalConv


@pytest.mark.parametrize(("taps", "copies"), [(1, 1), (4, 1), (4, 3)])
def test_the_convolution_and_its_gradients_are_those_of_conv1d(taps, copies):
    torch.manual_seed(3)
    conv = CausalConv(5, taps, copies).double()
    x = torch.randn(2, 9, 5, dtype=torch.float64, requires_grad=True)
    cache = torch.randn(2, taps - 1, 5, dtype=torch.float64, requires_grad=True)
    y, after = conv(x, cache)
    seen = torch.cat([cache, x], 1)
    expected = torch.stack(
        [torch.nn.functional.conv1d(seen.mT, conv.weight[copy][:, None], groups=5).mT for copy in range(copies)], 1
    )  # fmt: skip
    torch.testing.assert_close(y, expected)
    assert torch.equal(after, seen[:, 9:])
    weights = torch.randn_like(y)
    ours, theirs = (torch.autograd.grad((out * weights).sum(), (x, cache, conv.weight)) for out in (y, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_the_convolution_can_be_differentiated_twice():
    torch.manual_seed(3)
    conv = CausalConv(2, 3, 2).double()
    x = torch.randn(1, 4, 2, dtype=torch.float64, requires_grad=True)
    cache = conv.initial(1, x)
    assert torch.autograd.gradcheck(lambda x, w: torch.func.functional_call(conv, {"weight": w}, (x, cache))[0], (x, conv.weight))
    assert torch.autograd.gradgradcheck(lambda x, w: torch.func.functional_call(conv, {"weight": w}, (x, cache))[0], (x, conv.weight))
