import pytest
import torch
from torch.testing import assert_close

from sparse_rcnn.nn import BoxHead


def make(feature_reuse=True):
    torch.manual_seed(0)
    return BoxHead(hidden_dim=6, fully_connected_dim=10, pool_size=3, feature_reuse=feature_reuse)


@pytest.mark.parametrize("feature_reuse", [False, True])
def test_equals_a_loop(feature_reuse):
    head = make(feature_reuse)
    pro_feats, roi_feats = torch.randn(2, 4, 6), torch.randn(2, 4, 9, 6)
    found = head(pro_feats, roi_feats)
    assert found.shape == (2, 4, 6)
    for image in range(2):
        for proposal in range(4):
            x = (head.fc1.weight @ roi_feats[image, proposal].reshape(-1) + head.fc1.bias).clamp(min=0)
            if feature_reuse:
                x = torch.cat((x, pro_feats[image, proposal]))
            x = (head.fc2.weight @ x + head.fc2.bias).clamp(min=0)
            assert_close(found[image, proposal], x)


def test_reads_the_proposal_only_if_told():
    roi_feats = torch.randn(1, 4, 9, 6)
    first, second = torch.randn(2, 1, 4, 6)
    assert_close(make(False)(first, roi_feats), make(False)(second, roi_feats))
    assert not torch.equal(make(True)(first, roi_feats), make(True)(second, roi_feats))


def test_shared_features():
    head = make()
    pro_feats, roi_feats = torch.randn(1, 4, 6), torch.randn(3, 4, 9, 6)
    assert_close(head(pro_feats, roi_feats), head(pro_feats.expand(3, -1, -1), roi_feats))


def test_features_are_not_read_at_all():
    # A model without features of proposals gives none.
    assert make(False)(torch.randn(1, 4, 0), torch.randn(2, 4, 9, 6)).shape == (2, 4, 6)
