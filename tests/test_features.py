"""Feature extractors: what the networks see, agreement with their sources, recipes, caching, and refused weights.

The networks have the published layouts and random weights.
"""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from conftest import make_blobs
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
from torchvision.models import inception_v3

from nbutils import features, weights
from nbutils.features import Extractor, extract, recipe
from nbutils.images import ImageSet, resize, to_float

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
IMAGENET_FILE = "inception_v3_google-1a9a5a14.pth"
DINOV2_FILE = "dinov2_vits14_pretrain.pth"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder with files in the published layouts."""
    folder = tmp_path_factory.mktemp("weights")
    options = {"weights": None, "init_weights": False, "transform_input": False}
    inception = inception_v3(num_classes=1008, aux_logits=False, **options).state_dict()
    with_head = inception_v3(num_classes=1000, aux_logits=True, **options).state_dict()
    transformer = timm.create_model("vit_small_patch14_dinov2", num_classes=0).state_dict()
    save(folder / INCEPTION_FILE, inception, zipped=False)  # published before torch's zip format
    save(folder / IMAGENET_FILE, with_head, zipped=False)
    save(folder / DINOV2_FILE, {**transformer, "mask_token": torch.zeros(1, 384)})
    return folder


def save(path, state, zipped=True):
    """Write a state dict whose matrices are parts of one random vector, so that the file is small."""
    noise = 0.06 * torch.randn(3_000_000, generator=torch.Generator().manual_seed(0))
    random = {name: noise[: value.numel()].view(value.shape) for name, value in state.items() if value.ndim > 1}
    scales = {name: torch.ones_like(value) for name, value in state.items() if name.endswith("gamma")}  # else 1e-5
    torch.save({**state, **random, **scales}, path, _use_new_zipfile_serialization=zipped)


def expect(name, content, monkeypatch):
    """Take a file of this content for the published one."""
    known = replace(weights.PRETRAINED[name], sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(weights.PRETRAINED, name, known)


@pytest.fixture
def weights_folder(published, monkeypatch):
    """The folder of published weights, each taken for the published file."""
    monkeypatch.setenv("NBUTILS_WEIGHTS", str(published))
    for name in ("inception-fid", "inception-imagenet", "dinov2-small"):
        expect(name, (published / weights.PRETRAINED[name].path).read_bytes(), monkeypatch)
    features._network.cache_clear()
    return published


class Recorder:
    """A network that remembers what it saw and returns the means of the channels."""

    def __init__(self):
        self.seen = []

    def __call__(self, images):
        self.seen.append(images)
        return images.float().mean(dim=(2, 3))


@pytest.fixture
def recorder(monkeypatch):
    """An extractor "mean" of 20 px, whose network records its input."""
    network = Recorder()
    monkeypatch.setitem(features.EXTRACTORS, "mean", Extractor(lambda: "a" * 64, lambda: network, image_size=20))
    features._network.cache_clear()
    return network


def with_images(images):
    count = len(images)
    return ImageSet(images, np.zeros(count), ("one",), [f"p{i}" for i in range(count)])


def test_the_network_sees_rgb_uint8_images_resized_once_and_antialiased(recorder):
    grey = make_blobs(5, seed=0, image_size=48)
    found = extract(grey, "mean")
    (seen,) = recorder.seen
    assert (seen.shape, seen.dtype) == ((5, 3, 20, 20), torch.uint8)
    assert (seen.numpy() == np.repeat(resize(grey.images, 20), 3, axis=1)).all()
    np.testing.assert_allclose(found, seen.float().mean(dim=(2, 3)))
    assert (found.shape, found.dtype) == ((5, 3), np.float32)

    stripes = np.zeros((1, 3, 60, 60), np.uint8)
    stripes[..., ::2] = 255
    extract(with_images(stripes), "mean")
    inner = recorder.seen[-1][..., 2:-2].float()  # away from the edges
    assert inner.std() < 45  # without antialiasing every third column is kept: 0, 255, 0, 255 ...


def test_images_of_the_right_size_and_three_channels_are_not_touched(recorder):
    images = make_blobs(4, seed=0, image_size=20, channels=3)
    extract(images, "mean")
    assert (recorder.seen[0].numpy() == images.images).all()


def test_features_come_in_the_order_of_the_images_whatever_the_batches(recorder, monkeypatch):
    images = make_blobs(11, seed=0, image_size=20)
    expected = images.images.mean(axis=(1, 2, 3))
    monkeypatch.setattr(features, "BATCH_PIXELS", 3 * 20 * 20)
    np.testing.assert_allclose(extract(images, "mean")[:, 0], expected, rtol=1e-5)
    assert [len(batch) for batch in recorder.seen] == [3, 3, 3, 2]
    monkeypatch.setattr(features, "BATCH_PIXELS", 1)
    extract(images.subset(range(3)), "mean")
    assert [len(batch) for batch in recorder.seen[4:]] == [1, 1, 1]


def test_features_are_kept_by_content_of_the_images_and_by_weights(recorder, monkeypatch):
    images = make_blobs(4, seed=0)
    first = extract(images, "mean")
    assert (extract(images.subset(range(4)), "mean") == first).all()
    assert len(recorder.seen) == 1
    assert (extract(make_blobs(4, seed=1), "mean") != first).any()
    assert len(recorder.seen) == 2
    for count, (checksum, image_size) in enumerate([("a" * 63 + "b", 20), ("a" * 64, 16)], start=3):
        entry = Extractor(lambda checksum=checksum: checksum, lambda: recorder, image_size)
        monkeypatch.setitem(features.EXTRACTORS, "mean", entry)
        extract(images, "mean")
        assert len(recorder.seen) == count


def test_the_network_is_loaded_once_for_several_sets(monkeypatch):
    loaded = []
    entry = Extractor(lambda: "a" * 64, lambda: loaded.append(1) or Recorder(), image_size=20)
    monkeypatch.setitem(features.EXTRACTORS, "mean", entry)
    features._network.cache_clear()
    for seed in range(3):
        extract(make_blobs(2, seed=seed), "mean")
    assert len(loaded) == 1


def test_the_recipe_names_extractor_weights_resize_and_dtype(weights_folder):
    digest = hashlib.sha256((weights_folder / INCEPTION_FILE).read_bytes()).hexdigest()
    assert recipe("inception") == (
        f"inception: weights sha256 {digest[:12]}, images resized once to 299 px (bicubic, antialiased, uint8), "
        "grey repeated to RGB, float32"
    )
    assert "images at native size" in recipe("inception_timm_native")
    assert "224 px" in recipe("dinov2_small")


def agree(found, expected):
    """Features are equal, to a small part of what tells the first image from the second."""
    expected = expected.numpy()
    difference = np.abs(expected[0] - expected[1]).mean()
    assert difference > 1e-2 * np.abs(expected).mean()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-2 * difference)


def test_inception_is_the_network_of_torch_fidelity(weights_folder):
    images = make_blobs(2, seed=0, image_size=64)
    large = with_images(resize(images.images, 299))
    path = weights_folder / INCEPTION_FILE
    reference = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=path)
    with torch.inference_mode():
        (expected,) = reference(torch.from_numpy(np.repeat(large.images, 3, axis=1)))
    found = extract(images, "inception")
    assert found.shape == (2, 2048)
    agree(found, expected)
    agree(extract(large, "inception"), expected)


def test_torch_fidelity_leaves_images_of_299_px_as_they_are():
    images = torch.rand(1, 3, 299, 299)
    assert torch.equal(interpolate_bilinear_2d_like_tensorflow1x(images, size=(299, 299), align_corners=False), images)


def test_inception_timm_native_takes_images_as_they_are(weights_folder):
    images = make_blobs(2, seed=0, image_size=96)
    reference = inception_v3(weights=None, init_weights=False, transform_input=False)
    reference.load_state_dict(torch.load(weights_folder / IMAGENET_FILE, weights_only=True))
    reference.fc, reference.aux_logits = torch.nn.Identity(), False
    with torch.inference_mode():
        expected = reference.eval()(to_float(images.images).expand(-1, 3, -1, -1))
    found = extract(images, "inception_timm_native")
    assert found.shape == (2, 2048)
    agree(found, expected)


def test_images_too_small_to_be_taken_as_they_are(weights_folder):
    with pytest.raises(
        ValueError, match=r"from 75 px, found 74 px in blobs0; .* resizes: inception, dinov2, dinov2_small"
    ):
        extract(make_blobs(1, seed=0, image_size=74), "inception_timm_native")
    assert extract(make_blobs(1, seed=0, image_size=75), "inception_timm_native").shape == (1, 2048)


def test_dinov2_gives_the_normalised_class_token_at_224_px(weights_folder):
    images = make_blobs(2, seed=0, image_size=56, channels=3)
    network = timm.create_model("vit_small_patch14_dinov2", num_classes=0, dynamic_img_size=True)
    state = torch.load(weights_folder / DINOV2_FILE, weights_only=True)
    state.pop("mask_token")
    network.load_state_dict(state)
    scaled = torch.from_numpy(resize(images.images, 224)) / 255
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    with torch.inference_mode():
        expected = network.eval().forward_features((scaled - mean) / deviation)[:, 0]
    agree(extract(images, "dinov2_small"), expected)


def test_dinov2_is_the_large_network():
    with torch.device("meta"):
        network = timm.create_model(features.EXTRACTORS["dinov2"].load.args[1], num_classes=0, img_size=224)
    assert network.num_features == 1024
    assert len(network.state_dict()) == 342  # and the mask token: 343 tensors in the published file


@pytest.mark.parametrize("name", ["inception", "inception_timm_native", "dinov2", "dinov2_small"])
def test_missing_weights_say_what_to_fetch_and_where_to_put_it(name, tmp_path, monkeypatch):
    monkeypatch.setenv("NBUTILS_WEIGHTS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=rf"not in {tmp_path}: get [\w.-]+\.pth from .* and put it there"):
        extract(make_blobs(2, seed=0), name)


@pytest.mark.parametrize("damage", ["truncated", "another"])
@pytest.mark.parametrize("name", ["inception-fid", "inception-imagenet", "dinov2-large", "dinov2-small"])
def test_weights_with_a_wrong_hash_are_refused(name, damage, tmp_path, monkeypatch):
    monkeypatch.setenv("NBUTILS_WEIGHTS", str(tmp_path))
    path = tmp_path / weights.PRETRAINED[name].path
    torch.save({"a": torch.zeros(3)}, path)
    content = path.read_bytes()
    expect(name, content, monkeypatch)
    (extractor,) = (key for key, entry in features.EXTRACTORS.items() if entry.checksum.args == (name,))
    assert "sha256" in recipe(extractor)
    path.write_bytes(content[:-9] if damage == "truncated" else content[:-9] + b"other end")
    with pytest.raises(ValueError, match=r"damaged or another file: its SHA-256 .*get it again from "):
        extract(make_blobs(2, seed=0), extractor)


class Harmful:
    """Pickles to a call, which a safe reader refuses to make."""

    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize("name", ["inception", "inception_timm_native", "dinov2_small"])
def test_code_in_a_file_of_weights_is_not_executed(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NBUTILS_WEIGHTS", str(tmp_path))
    known = features.EXTRACTORS[name].checksum.args[0]
    path = tmp_path / weights.PRETRAINED[known].path
    torch.save({"a": Harmful()}, path)
    expect(known, path.read_bytes(), monkeypatch)
    features._network.cache_clear()
    with pytest.raises(ValueError, match="nothing in it was executed"):
        extract(make_blobs(2, seed=0, image_size=80), name)
    assert "executed" not in capsys.readouterr().out


def test_unknown_extractors_and_empty_sets_are_named(recorder):
    with pytest.raises(ValueError, match=r"Unknown feature extractor 'inceptoin'.*Did you mean 'inception'"):
        extract(make_blobs(2, seed=0), "inceptoin")
    with pytest.raises(ValueError, match="mean needs images, found none in blobs0"):
        extract(make_blobs(2, seed=0).subset([]), "mean")
    with pytest.raises(ValueError, match=r"images must be a uint8 array .*, found float32"):
        with_images(np.zeros((2, 1, 16, 16), np.float32))
