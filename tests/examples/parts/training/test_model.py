"""The model of a resumed run comes from its checkpoint, not from the weights it began with."""

from pathlib import Path

import pytest
import torch
from parts.training.arguments import parse_arguments
from parts.training.model import build_model

SMALL = ("--hidden-dim", "16", "--dynamic-dim", "8", "--num-heads", "2", "--feedforward-dim", "32")


def test_a_run_goes_on_without_the_weights_it_began_with(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    first, config = build_model(parse_arguments(None, [*SMALL, "--num-stages", "3"]), ["a", "b"], None, 0)
    torch.save({"model": first.state_dict(), "config": config, "class_names": ["a", "b"]}, weights)

    tuning = parse_arguments(None, ["--weights", str(weights), "--proposal-init", "center"])
    second, tuned = build_model(tuning, ["a", "b"], None, 0)
    assert tuned == {**config, "proposal_init": "center"}
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))

    weights.unlink()
    third, resumed = build_model(tuning, ["a", "b"], {"model": second.state_dict(), "config": tuned}, 0)
    assert resumed == tuned
    third.load_state_dict(second.state_dict())
    with pytest.raises(ValueError, match=r"weights\.pth"):
        build_model(tuning, ["a", "b"], None, 0)
