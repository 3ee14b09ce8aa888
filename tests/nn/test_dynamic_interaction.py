import torch
import torch.nn.functional as F
from einops import einsum, rearrange

from sparse_rcnn.nn import DynamicInteraction


def layer_norm(x, norm):
    return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias)


def make(hidden_dim=8, dynamic_dim=3, pool_size=2):
    torch.manual_seed(0)
    module = DynamicInteraction(hidden_dim, dynamic_dim, pool_size).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


def test_equals_the_papers_pseudocode():
    module = make()
    pro_feats, roi_feats = torch.randn(5, 8).double(), torch.randn(5, 4, 8).double()
    kernels = pro_feats @ module.generator.weight.T + module.generator.bias
    kernel1 = rearrange(kernels[:, :24], "n (c d) -> n c d", d=3)
    kernel2 = rearrange(kernels[:, 24:], "n (d c) -> n d c", d=3)
    x = einsum(roi_feats, kernel1, "n s c, n c d -> n s d")
    x = layer_norm(x, module.norm1).relu()
    x = einsum(x, kernel2, "n s d, n d c -> n s c")
    x = layer_norm(x, module.norm2).relu()
    x = rearrange(x, "n s c -> n (s c)") @ module.out.weight.T + module.out.bias
    expected = layer_norm(x, module.norm3).relu()
    torch.testing.assert_close(module(pro_feats, roi_feats), expected)


def test_proposals_do_not_mix():
    module = make()
    pro_feats, roi_feats = torch.randn(2, 5, 8).double(), torch.randn(2, 5, 4, 8).double()
    together = module(pro_feats, roi_feats)
    for image in range(2):
        for proposal in range(5):
            alone = module(pro_feats[image, proposal, None], roi_feats[image, proposal, None])
            torch.testing.assert_close(together[image, proposal], alone[0])


def test_shared_proposals_equal_expanded_ones():
    module = make()
    pro_feats, roi_feats = torch.randn(1, 5, 8).double(), torch.randn(3, 5, 4, 8).double()
    shared = module(pro_feats, roi_feats)
    torch.testing.assert_close(shared, module(pro_feats.expand(3, 5, 8), roi_feats))


def test_every_parameter_learns():
    module = make()
    module(torch.randn(5, 8).double(), torch.randn(5, 4, 8).double()).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())
