"""Perceptual distances: zero for equal images, growing, and LPIPS equal to torch-fidelity's on the same files."""

from types import SimpleNamespace

import pytest
import torch
import torch_fidelity.sample_similarity_lpips as reference
from torch import nn

from nbutils import perceptual, weights
from nbutils.backbone import BACKBONE, load_backbone
from nbutils.perceptual import LPIPS, LPIPS_VGG, VGG, load_distance, perceptual_distance


def random_images(count=2, seed=0):
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture
def published(tmp_path, monkeypatch):
    """The two files behind LPIPS, with random weights; returns what is in them."""
    layers = LPIPS().features
    for layer in layers:
        if isinstance(layer, nn.Conv2d):  # so that the last maps tell images apart, too
            nn.init.kaiming_normal_(layer.weight)
    vgg = {f"features.{name}": value for name, value in layers.state_dict().items()}
    heads = {f"lin{i}.model.1.weight": torch.rand(1, maps, 1, 1) for i, maps in enumerate(perceptual.MAPS.values())}
    for name, state in ((VGG, vgg), (LPIPS_VGG, heads)):
        torch.save(state, tmp_path / f"{name}.pth")
        monkeypatch.setitem(weights.PRETRAINED, name, weights.Pretrained(f"{name}.pth", "a test"))
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(tmp_path))
    return vgg, heads


@pytest.mark.parametrize("name", [BACKBONE, LPIPS_VGG])
def test_distances_are_zero_for_equal_images_and_differentiable(name):
    distance = load_distance(name, pretrained=False)
    images = random_images().requires_grad_()
    assert distance(images, images).item() == pytest.approx(0, abs=1e-6)
    distance(images, random_images(seed=1)).backward()
    assert images.grad.abs().sum() > 0


def test_the_distance_on_the_shipped_backbone_grows():
    distance, images = load_distance(BACKBONE), random_images(4)
    values = [float(distance(images, images + by)) for by in (0.0, 0.1, 1.0)]
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values[0] < values[1] < values[2] < 4


def test_the_shipped_backbone_is_loaded_only_if_it_is_asked_for():
    images, others = random_images(), random_images(seed=1)
    expected = perceptual_distance(load_backbone(weights.locate(BACKBONE).parent), images, others)
    assert load_distance(BACKBONE)(images, others) == expected
    assert load_distance(BACKBONE, pretrained=False)(images, others) != expected


def test_lpips_is_that_of_torch_fidelity(published, monkeypatch):
    vgg, heads = published
    layers = LPIPS().features
    layers.load_state_dict({name.removeprefix("features."): value for name, value in vgg.items()})
    monkeypatch.setattr(reference, "torchvision_load_pretrained_vgg16", lambda: SimpleNamespace(features=layers))
    monkeypatch.setattr(reference, "load_state_dict_from_url", lambda *_, **__: heads)
    theirs = reference.SampleSimilarityLPIPS("lpips")
    images, others = random_images(), random_images(seed=1)
    expected = theirs(*((each + 1) * 127.5 for each in (images, others))).mean()
    torch.testing.assert_close(load_distance(LPIPS_VGG)(images, others), expected)
    assert expected > 0


def test_files_that_are_missing_are_named_and_those_at_hand_have_checksums(published):
    assert set(perceptual.checksums(LPIPS_VGG)) == {VGG, LPIPS_VGG}
    assert perceptual.checksums(BACKBONE) == {BACKBONE: weights.checksum(BACKBONE)}
    (weights.paper_folder() / f"{VGG}.pth").unlink()
    with pytest.raises(FileNotFoundError, match="'vgg16-imagenet' are not in"):
        load_distance(LPIPS_VGG)
    with pytest.raises(ValueError, match="Unknown perceptual network 'alexnet'"):
        load_distance("alexnet")
