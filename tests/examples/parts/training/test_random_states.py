"""Random generators continue from a checkpoint."""

import io
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from parts.training.random_states import random_states, restore_random_states, seed_everything

CPU = torch.device("cpu")


def draw_from_all() -> list[float]:
    """Uniform and normal: of the latter, Python and NumPy make two at a time and keep one."""
    return [
        *(random.random(), random.gauss(0, 1), random.randrange(2**40)),
        *(np.random.random(), np.random.normal(), int(np.random.randint(2**31))),
        *(torch.rand(()).item(), torch.randn(()).item(), int(torch.randperm(1000)[0])),
    ]


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    draw_from_all()


def as_they_are(states: dict[str, Any]) -> dict[str, Any]:
    return states


def through_a_file(states: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(states, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("keep", [as_they_are, through_a_file])
def test_the_same_numbers_come_again(keep: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    seed_all(3)
    states = keep(random_states(CPU))
    first = [draw_from_all() for _ in range(5)]
    assert first[0] != first[1]
    seed_all(8)
    assert draw_from_all() != first[0]
    restore_random_states(states, CPU)
    assert [draw_from_all() for _ in range(5)] == first


def test_looking_changes_nothing() -> None:
    seed_all(4)
    expected = [draw_from_all() for _ in range(2)]
    seed_all(4)
    found = []
    for _ in range(2):
        random_states(CPU)
        found.append(draw_from_all())
    assert found == expected


def test_a_file_gives_them_back_the_same() -> None:
    seed_all(5)
    restore_random_states(through_a_file(random_states(CPU)), CPU)
    state, again = random_states(CPU), through_a_file(random_states(CPU))
    assert again["python"] == state["python"]
    assert again["numpy"] == state["numpy"]
    assert torch.equal(again["torch"], state["torch"])


@pytest.mark.parametrize("seed", [0, 7, 2**32 + 7])
def test_a_seed_determines_all_generators(seed: int) -> None:
    def numbers_after(number: int) -> list[float]:
        seed_everything(number)
        return draw_from_all()

    first, second, other = numbers_after(seed), numbers_after(seed), numbers_after(seed + 1)
    assert first == second
    assert not any(mine == theirs for mine, theirs in zip(first, other, strict=True))
