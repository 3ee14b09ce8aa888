"""Every public operation and module on the device, in float32, against float64 on a CPU."""

import pytest
import torch
from test_modes import DIFFERENTIABLE, MODULES, TABLE, Inputs, function_and_args, leaves
from torch import Tensor, nn


def moved(value, device):
    """Tensors, and lists and tuples of them, on the device."""
    if isinstance(value, (list, tuple)):
        return type(value)(moved(part, device) for part in value)
    return value.to(device) if isinstance(value, Tensor) else value


@pytest.mark.parametrize("name", [*TABLE, *MODULES])
def test_results(name, device):
    exact, arguments = function_and_args(name, Inputs(torch.float64))
    expected = leaves(exact(*arguments))
    function, arguments = function_and_args(name, Inputs(torch.float32))
    if isinstance(function, nn.Module):
        function.to(device)
    with torch.no_grad():
        found = leaves(function(*moved(arguments, device)))
    tolerance = 1e-3 if name in MODULES else 1e-4
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        if not isinstance(theirs, Tensor):
            assert mine == theirs
            continue
        assert mine.device.type == device.type
        theirs = theirs.float() if theirs.is_floating_point() else theirs
        torch.testing.assert_close(mine.cpu(), theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients(name, device):
    function, make_arguments = TABLE[name]
    found = []
    for dtype, place in ((torch.float64, torch.device("cpu")), (torch.float32, device)):
        arguments = moved(make_arguments(Inputs(dtype)), place)
        tensors = [leaf.requires_grad_() for leaf in leaves(arguments) if is_floating(leaf)]
        values = [value for value in leaves(function(*arguments)) if is_floating(value)]
        total = torch.stack([value.square().sum() for value in values]).sum()
        gradients = torch.autograd.grad(total, tensors, materialize_grads=True)
        found.append([gradient.detach().cpu().double() for gradient in gradients])
    for theirs, mine in zip(*found, strict=True):
        scale = max(theirs.norm().item(), 1e-3)
        assert (mine - theirs).norm().item() <= 1e-4 * scale


def is_floating(leaf):
    return isinstance(leaf, Tensor) and leaf.is_floating_point()
