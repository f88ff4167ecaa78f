"""The fundus phantoms: photographs of the retina whose findings lie where an ophthalmologist looks."""

import numpy as np
import pytest
import torch
from conftest import few_phantoms, streams

from nbutils import phantoms
from nbutils.phantoms import fundus
from nbutils.phantoms.base import SideDraws
from nbutils.phantoms.fundus_camera import clear_media
from nbutils.phantoms.retina import colours, draw_retina
from nbutils.phantoms.retinal_lesions import diabetic

COUNT = 16


@pytest.fixture(scope="module")
def photographs():
    """12 photographs of each class of ODIR-5k, rendered once."""
    return few_phantoms("fundus", "test", each=12, image_size=64)


def drawn(class_name: str | None):
    """Return the same 16 eyes, without a finding (None) or with that of a class, as scene and colours."""
    side = torch.arange(COUNT) % 2
    retina = draw_retina(streams(COUNT, 1), SideDraws(streams(COUNT, 2), side), side, streams(COUNT, 3), 96)
    media = clear_media(retina.age[:, 0, 0], streams(COUNT, 4))
    if class_name is not None:
        label = fundus.MODALITY.class_names.index(class_name)
        fundus.RECIPES[label](retina, media, SideDraws(streams(COUNT, 5), side))
    return retina, colours(retina, SideDraws(streams(COUNT, 6), side))


def within(mask: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """Return the mean brightness of each picture (B, 3, N, N) where a mask (B, N, N) is true, (B,)."""
    return (pictures.mean(1) * mask).sum((1, 2)) / mask.sum((1, 2))


def roughness(images: np.ndarray) -> np.ndarray:
    """Return how much green differs from pixel to pixel in the middle of each image, (N,)."""
    quarter = images.shape[-1] // 4
    green = images[:, 1, quarter:-quarter, quarter:-quarter].astype(float)
    return np.abs(np.diff(green, axis=1)).mean((1, 2)) + np.abs(np.diff(green, axis=2)).mean((1, 2))


@pytest.mark.parametrize(
    ("name", "published", "totals"),
    [
        ("fundus", (3104, 1706, 326, 313, 280, 193, 261, 964), {"train": 899, "val": 302, "test": 401}),
        ("retinopathy", (1805, 370, 999, 193, 295), {"train": 700, "val": 152, "test": 300}),
    ],
)
def test_splits_have_the_published_frequencies(name, published, totals):
    published = np.array(published)
    for split, total in totals.items():
        counts = np.array(phantoms.modality(name).counts[split])
        assert counts.sum() == total
        expected = published / published.sum() * total
        np.testing.assert_allclose(counts, np.maximum(expected, 10), atol=1.2)


def test_both_eyes_are_photographed_round_on_black(photographs):
    images = photographs.images.astype(float)
    assert images[:, :, :3, :3].max() < 40, "corners are black"
    healthy = photographs.of_class(photographs.class_names.index("N")).images[:, 1].astype(float)
    # the disc, the brightest place, lies to the nose: right of the middle in right eyes
    smooth = torch.nn.functional.avg_pool2d(torch.from_numpy(healthy)[:, None], 5, 1)[:, 0].flatten(1)
    column = smooth.argmax(1) % (healthy.shape[-1] - 4)
    right = (column > (healthy.shape[-1] - 4) / 2).float().mean()
    assert 0.2 < right < 0.8


def test_the_fovea_is_dark_and_the_disc_is_bright():
    retina, pictures = drawn(None)
    u, v = retina.from_disc()
    fovea, around = retina.from_fovea() < 0.4, (retina.from_fovea() > 1.8) & (retina.from_fovea() < 2.4)
    assert (within(fovea, pictures) < within(around, pictures)).float().mean() > 0.9
    assert (within(u.square() + v.square() < 0.8, pictures) > within(around, pictures) + 0.1).all()


def test_left_and_right_eyes_are_mirror_images():
    retina, _ = drawn(None)
    disc = retina.place(torch.tensor([[4.6, 0.0]]).expand(COUNT, 1, 2))[:, 0, 0]
    fovea = retina.place(torch.zeros(COUNT, 1, 2))[:, 0, 0]
    assert ((disc - fovea).sign() == torch.tensor([1.0, -1.0]).repeat(COUNT // 2)).all()


def test_both_eyes_of_a_patient_are_alike_in_what_she_draws_and_not_in_what_each_draws():
    sides = [SideDraws(streams(4, 1), torch.full((4,), side)) for side in (0, 1, 1)]
    left, right, again = (draws.uniform(shape=(3,)) for draws in sides)
    assert torch.equal(right, again)
    assert (left != right).all()
    after = [draws.rows([2]).normal() for draws in sides[:2]]
    assert after[0] != after[1]


def test_findings_lie_where_an_ophthalmologist_looks():
    """Bright cups in glaucoma, pale maculae in degeneration, thin arteries in hypertension, white rims in myopia."""
    healthy, before = drawn(None)
    u, v = healthy.from_disc()
    disc = u.square() + v.square() < 0.5
    glaucoma, cupped = drawn("G")
    assert (glaucoma.cup > 0.6).all()
    assert (within(disc, cupped) > within(disc, before) + 0.02).float().mean() > 0.8
    macula = healthy.from_fovea() < 1.2
    degenerate, spotted = drawn("A")
    assert ((degenerate.drusen * macula).flatten(1).amax(1) > 0.4).all()
    assert (within(macula, spotted) > within(macula, before)).float().mean() > 0.6
    temporal = (u > -2.0) & (u < -1.25) & (v.abs() < 0.6)
    assert (within(temporal, drawn("M")[1]) > within(temporal, before) + 0.05).float().mean() > 0.8
    assert (drawn("H")[0].artery < healthy.artery).all()


def test_a_cup_brightens_the_disc():
    side = torch.zeros(COUNT, dtype=torch.int64)
    seen = []
    for cup in (0.3, 0.85):
        retina = draw_retina(streams(COUNT, 1), streams(COUNT, 2), side, streams(COUNT, 3), 96)
        retina.cup = torch.full_like(retina.cup, cup)
        u, v = retina.from_disc()
        seen.append(within(u.square() + v.square() < 0.5, colours(retina, streams(COUNT, 6))))
    assert (seen[1] > seen[0] + 0.05).all()


def test_a_cataract_blurs_the_photograph(photographs):
    rough = roughness(photographs.images)

    def of(name):
        return np.median(rough[photographs.labels == photographs.class_names.index(name)])

    assert of("C") < 0.85 * of("N")
    assert of("M") > 1.1 * of("N"), "choroidal vessels show"


def test_diabetic_lesions_multiply_with_severity():
    covered = []
    for severity in range(5):
        retina, _ = drawn(None)
        diabetic(retina, streams(COUNT, 7), torch.full((COUNT,), float(severity)))
        covered.append(torch.stack([retina.blood, retina.lipid, retina.wool]).amax(0).mean())
    assert covered[0] == 0
    assert (np.diff(covered) > 0).all()
    assert covered[2] > 3 * covered[1]


def test_graded_photographs_show_more_the_higher_the_grade():
    grades = few_phantoms("retinopathy", "test", each=16, image_size=64)
    rough = [np.median(roughness(grades.of_class(grade).images)) for grade in (0, 2, 3)]
    assert rough == sorted(rough)
    assert rough[2] > 1.25 * rough[0]


def test_photographs_of_a_patient_resemble_each_other(photographs):
    colour = photographs.images[:, :, 16:-16, 16:-16].mean((2, 3))
    labels, groups = photographs.labels, photographs.groups
    within_patients, between = [], []
    for label in np.unique(labels):
        of_class = labels == label
        between.append(colour[of_class].var(0, ddof=1).sum())
        for group in np.unique(groups[of_class]):
            if (own := of_class & (groups == group)).sum() > 1:
                within_patients.append(colour[own].var(0, ddof=1).sum())
    assert np.mean(within_patients) < 0.75 * np.mean(between)
