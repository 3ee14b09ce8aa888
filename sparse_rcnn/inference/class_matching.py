"""A detector's classes and a data set's, matched by name."""

import difflib
from collections.abc import Sequence

from sparse_rcnn.data.formats.detection_dataset import DetectionDataset


def category_ids_of(
    class_names: Sequence[str], dataset: DetectionDataset, wanted: Sequence[str] | None = None
) -> list[int | None]:
    """The data set's category id of each label of a detector; None for what is not to be evaluated.

    Args:
        class_names: of the detector, by label.
        dataset: with the ground truth; its classes may come in another order, or be fewer.
        wanted: classes to evaluate, which both must know; all of the data set unless given.

    Raises:
        ValueError: naming the classes that one of the two does not have, and names like them.
    """
    ids, known = dataset.category_ids, dataset.class_names
    if wanted is None and list(class_names) == known:
        return list(ids)  # names may be equal, too
    both = (("the checkpoint", list(class_names)), ("the data set", known))
    for owner, names in both:
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{owner} has two classes of one name, {', '.join(twice)}: no match by name")
    common = [name for name in known if name in {*class_names}]
    if wanted is None:
        missing = [name for name in known if name not in {*class_names}]
        if missing:
            remedy = f"; both have {', '.join(map(repr, common))}: choose classes of these" if common else ""
            raise ValueError(
                f"the checkpoint has no class {_with_likes(missing, class_names)}; its classes are "
                f"{_first(class_names)}{remedy}"
            )
    for owner, names in both:
        missing = [name for name in wanted or [] if name not in names]
        if missing:
            raise ValueError(
                f"classes: {owner} has no class {_with_likes(missing, names)}; its classes are "
                f"{_first(names)}"
            )
    chosen = {*(common if wanted is None else wanted)}
    by_name = dict(zip(known, ids, strict=True))
    return [by_name[name] if name in chosen else None for name in class_names]


def _with_likes(missing: Sequence[str], names: Sequence[str]) -> str:
    words = []
    for name in missing:
        alike = difflib.get_close_matches(name, names, n=1)
        words.append(f"{name!r} (did you mean {alike[0]!r}?)" if alike else repr(name))
    return ", ".join(words)


def _first(names: Sequence[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
