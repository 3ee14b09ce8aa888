"""The threshold that is proposed shows the best object, and is short."""

import pytest
from parts.low_scores import about_low_scores


@pytest.mark.parametrize(
    ("score", "shown", "lower"), [(0.213, "0.21", "0.2"), (0.3, "0.3", "0.3"), (0.0179, "0.018", "0.01")]
)
def test_a_lower_threshold_is_proposed(score: float, shown: str, lower: str) -> None:
    words = about_low_scores(0.4, (score, "dog"))
    assert words == (
        f"no object has a score of 0.4 or more; the best has {shown} (dog): --threshold {lower} shows it"
    )
    assert float(lower) <= score


@pytest.mark.parametrize(
    ("best", "words"),
    [(None, ""), ((0.0, "dog"), "; the best has 0 (dog)"), ((0.009, "a"), "; the best has 0.009 (a)")],
)
def test_without_a_score_there_is_no_proposal(best: tuple[float, str] | None, words: str) -> None:
    assert about_low_scores(0.4, best) == "no object has a score of 0.4 or more" + words
