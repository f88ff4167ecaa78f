"""nbutils.ablation: one setting at a time, fewer images among more."""

from dataclasses import asdict

import pytest
from conftest import make_blobs

from nbutils import ablation, generators
from nbutils.scales import SCALES


@pytest.mark.parametrize("scale", SCALES)
def test_each_variant_differs_from_the_first_in_one_thing(scale):
    images = make_blobs(120, 0, image_size=8)
    variants = ablation.variants(scale, images)
    base = asdict(generators.create(ablation.METHOD, scale, num_steps=ablation.SCALES[scale].num_steps).config)
    assert next(iter(variants)) == ablation.AS_IS
    for label, (changes, part) in variants.items():
        config = asdict(generators.create(ablation.METHOD, scale, **changes).config)
        changed = [name for name, value in config.items() if value != base[name]]
        assert len(changed) + (part is not images) == (label != ablation.AS_IS), label


def test_placements_are_some_of_the_variants():
    images = make_blobs(20, 0, image_size=8)
    placed = ablation.placements("demo", images)
    assert [changes.get("placement") for changes, _ in placed.values()] == [None, "encoder", "decoder"]
    assert placed.items() <= ablation.variants("demo", images).items()


def test_there_is_no_curve_beyond_the_images_that_there_are():
    few = make_blobs(20, 0, image_size=8)
    labels = [label for label in ablation.variants("demo", few) if label.endswith("a class")]
    assert labels == ["5 images a class"]
