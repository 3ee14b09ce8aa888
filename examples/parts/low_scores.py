"""What to say where no score reaches the threshold, as after a short training: that is no failure."""

import math

LEAST = 0.01  # a threshold below that shows anything


def about_low_scores(threshold: float, best: tuple[float, str] | None) -> str:
    """A sentence.

    Args:
        threshold: Of what was shown.
        best: The best score below it, and its class. None if it is not known.

    Example:
        >>> about_low_scores(0.3, (0.213, "dog"))
        'no object has a score of 0.3 or more; the best has 0.21 (dog): --threshold 0.2 shows it'
    """
    words = f"no object has a score of {threshold:g} or more"
    if best is None:
        return words
    score, name = best
    words = f"{words}; the best has {score:.2g} ({name})"
    if score < LEAST:
        return words
    unit = 10.0 ** math.floor(math.log10(score))
    lower = math.floor(score / unit * (1 + 1e-9)) * unit  # one digit, rounded down
    return f"{words}: --threshold {lower:.1g} shows it"
