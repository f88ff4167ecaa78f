"""nbutils.oracle: the shipped readers, and what they say."""

import pytest

from nbutils import oracle, phantoms
from nbutils.artefacts import find


@pytest.mark.parametrize("modality", ["liver", "dermoscopy"])
def test_a_shipped_reader_knows_the_classes_of_its_phantoms(modality):
    assert find("oracle", oracle.key(modality)).source == "shipped"
    counts = (20,) * len(phantoms.modality(modality).class_names)
    images = phantoms.render(modality, "test", seed=5, counts=counts)
    table = oracle.agreement({"real": images}, f"phantom:{modality}")
    assert list(table.columns) == ["source", *images.class_names]
    chance = 1 / len(counts)
    assert table[list(images.class_names)].to_numpy().mean() > 0.6 > chance


def test_wrong_labels_are_noticed():
    images = phantoms.render("liver", "test", seed=5, counts=(10, 0, 10))
    swapped = images.subset(range(len(images)))
    swapped.labels[:] = 2 - images.labels
    table = oracle.agreement({"right": images, "swapped": swapped}, "phantom:liver").set_index("source")
    assert table.loc["right", "cyst"] > 0.5 > table.loc["swapped", "cyst"]


def test_nobody_can_read_images_that_are_no_phantoms(blobs):
    assert oracle.modality_of("folder:/some/images") is None
    assert oracle.agreement({"real": blobs}, "folder:/some/images") is None


def test_an_unknown_modality_is_named():
    with pytest.raises(ValueError, match=r"Unknown phantom 'livre'.*'liver'"):
        oracle.agreement({}, "phantom:livre")
