"""Classes of a detector and a data set, by name."""

from types import SimpleNamespace

import pytest

from sparse_rcnn.inference.class_matching import category_ids_of

DATA = SimpleNamespace(class_names=["cat", "dog", "bird"], category_ids=[17, 18, 16])


def test_classes_match_by_name_in_any_order():
    assert category_ids_of(["cat", "dog", "bird"], DATA) == [17, 18, 16]
    assert category_ids_of(["bird", "cow", "cat", "dog"], DATA) == [16, None, 17, 18]
    assert category_ids_of(["bird", "cow", "cat"], DATA, ["cat", "bird"]) == [16, None, 17]


@pytest.mark.parametrize(
    ("names", "wanted", "message"),
    [
        (
            ["cat", "birds"],
            None,
            r"the checkpoint has no class 'dog', 'bird' \(did you mean 'birds'\?\).*both have 'cat': choose",
        ),
        (
            ["class 0", "class 1", "class 2"],
            None,
            "the checkpoint has no class 'cat', 'dog', 'bird'; its classes are class 0",
        ),
        (
            ["cat", "dog", "bird"],
            ["bir"],
            r"^classes: the checkpoint has no class 'bir' \(did you mean 'bird'\?\)",
        ),
        (["cat", "dog"], [0], "^classes: the checkpoint has no class 0; its classes are cat, dog"),
        (["cat", "dog"], [], "^classes must be at least one name"),
        (["cat", "dog"], "cat", r"^classes must be .* give \['cat'\]"),
        (["cat", "cow"], ["cow"], "^classes: the data set has no class 'cow'"),
        (["cat", "cat", "dog"], None, "the checkpoint has two classes of the same name, cat"),
    ],
)
def test_names_that_one_side_does_not_have_are_named(names, wanted, message):
    with pytest.raises(ValueError, match=message):
        category_ids_of(names, DATA, wanted)
