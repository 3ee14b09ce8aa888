import pytest
import torch

from sparse_rcnn.nn import Head, Predictions


def gradient_reaches(output, parameters):
    gradients = torch.autograd.grad(
        output.sum(), list(parameters), retain_graph=True, materialize_grads=True, allow_unused=True
    )
    return any(gradient.abs().sum() > 0 for gradient in gradients)


def test_no_stage():
    with pytest.raises(ValueError, match="num_stages"):
        Head([])


def test_stacks_every_stage(build_small, batch):
    predictions = build_small(num_stages=3)(*batch)
    assert isinstance(predictions, Predictions)
    assert predictions.logits.shape == (3, 2, 6, 3)
    assert predictions.boxes.shape == (3, 2, 6, 4)


def test_stages_run_one_after_the_other(build_small, batch):
    model = build_small()
    short = build_small(num_stages=1)
    short.load_state_dict(
        {key: value for key, value in model.state_dict().items() if not key.startswith("head.stages.1.")}
    )
    for ours, theirs in zip(short(*batch), model(*batch), strict=True):
        assert ours[0].equal(theirs[0])


def test_boxes_are_detached_between_stages(build_small, batch):
    model = build_small()
    predictions = model(*batch)
    first = model.head.stages[0]
    box_parameters = [*first.box_deltas.parameters(), *first.regression_tower.parameters()]
    assert gradient_reaches(predictions.boxes[0], box_parameters)
    assert not gradient_reaches(predictions.boxes[1], box_parameters)
    assert not gradient_reaches(predictions.logits[1], box_parameters)


def test_features_are_not_detached_between_stages(build_small, batch):
    model = build_small()
    predictions = model(*batch)
    first = model.head.stages[0]
    assert gradient_reaches(predictions.boxes[1], first.feedforward1.parameters())
    assert gradient_reaches(predictions.logits[1], first.interaction.parameters())


def test_first_stage_does_not_see_the_later_ones(build_small, batch):
    model = build_small()
    predictions = model(*batch)
    assert not gradient_reaches(predictions.logits[0], model.head.stages[1].parameters())
