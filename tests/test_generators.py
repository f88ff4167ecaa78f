"""nbutils.generators: the registry, the cache of trained generators, and what kill -9 leaves behind."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import make_blobs
from safetensors.torch import load_file

from nbutils import datasets, generators, paper_build, shipping
from nbutils.artefacts import cache_folder, entry_name, find
from nbutils.datasets import Splits
from nbutils.files import ROOT
from nbutils.protocols import GENERATORS
from nbutils.scales import SCALES
from nbutils.seeds import derive_seed, image_seeds, seeded_normal
from nbutils.shipping import ship_all

TRAINING = """
import sys
from conftest import make_blobs
from nbutils import generators, training
training.CHECKPOINT_SECONDS = 0
generator = generators.create("dcgan", scale="smoke", num_steps=300)
_, artefact = generators.fitted(generator, make_blobs(60, seed=0))
print(artefact.source, generator.log.resumed_from)
"""


ON_PRETRAINED = ["textual-inversion", "ldm-lora", "mage", "mage-adapter", "mage-adapter-vq"]
"""Generators that cannot be built without a network that was trained before."""

OTHERS = [name for name in generators.names() if name not in ON_PRETRAINED]


CLASSIFIER_NETWORKS = [
    "vgg16", "resnet18", "vit_base_patch16_224", "swin_base_patch4_window7_224", "resnet50", "inception_v3",
]  # fmt: skip


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", OTHERS)
def test_every_generator_builds_at_every_scale(name, scale):
    generator = generators.create(name, scale=scale)
    assert set(generator.scales) == set(SCALES)
    with torch.device("meta"):
        method = generator.build(3, 1, generator.config.image_size)
    parameters = sum(p.numel() for p in generator.sampling_network(method).parameters())
    assert parameters > 0
    if scale == "demo":
        assert parameters * 2 <= 1.5e6  # float16 bytes of a shipped file


@pytest.mark.parametrize("scale", ["smoke", "demo", "gpu"])
def test_textual_inversion_builds_on_the_shipped_prior(scale):
    generator = generators.create("textual-inversion", scale=scale)
    method = generator.build(3, 1, generator.config.image_size)
    width = generator.pipeline.text_encoder.config.hidden_size
    found = [tuple(vectors.shape) for vectors in generator.sampling_network(method).vectors]
    assert found == [(generator.config.num_vectors, width)] * 3


@pytest.mark.parametrize("scale", ["smoke", "demo", "gpu"])
def test_a_lora_builds_on_the_shipped_prior(scale):
    generator = generators.create("ldm-lora", scale=scale)
    method = generator.build(3, 1, generator.config.image_size)
    found = generator.sampling_network(method).state_dict()
    assert {min(matrix.shape) for matrix in found.values()} == {generator.config.rank}
    if scale == "demo":
        assert sum(matrix.numel() for matrix in found.values()) * 2 <= 1.5e6  # float16 bytes of a shipped file


def test_the_paper_scale_takes_a_step_or_says_why_not(monkeypatch, capsys):
    monkeypatch.setattr(paper_build, "available_memory", lambda: 0)
    table = paper_build.build_all()
    assert table["network"].tolist() == [*generators.names(), *CLASSIFIER_NETWORKS]
    assert table["step"].str.startswith("meta device only: a step needs").all()
    assert len(capsys.readouterr().out.splitlines()) == len(table)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "dcgam"}, r"Unknown generator 'dcgam'.*Did you mean 'dcgan'"),
        ({"name": "dcgan", "scale": "big"}, "Unknown scale 'big'"),
    ],
)
def test_unknown_names_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        generators.create(**arguments)


def test_an_unknown_field_is_refused():
    with pytest.raises(TypeError, match="num_step"):
        generators.create("dcgan", num_step=3)


def test_a_folder_without_a_generator_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="No generator in"):
        generators.load(tmp_path)


def test_sampling_needs_weights_and_labels_in_range(blobs):
    generator = generators.create("dcgan", scale="smoke", num_steps=1)
    with pytest.raises(RuntimeError, match="no weights yet"):
        generator.sample([0], seed=0)
    generator.fit(blobs)
    with pytest.raises(ValueError, match=r"labels must be 0..1, found 0..2"):
        generator.sample([0, 2], seed=0)
    assert len(generator.sample([], seed=0)) == 0


def test_a_class_without_images_is_named(blobs):
    with pytest.raises(ValueError, match="no training image of dark"):
        generators.create("dcgan", scale="smoke").fit(blobs.of_class(0))


def test_trained_weights_are_kept_and_retrained_on_request(blobs):
    generator = generators.create("dcgan", scale="smoke", num_steps=2)
    assert not generators.is_at_hand(generator, blobs)
    first, built = generators.fitted(generator, blobs)
    assert generators.is_at_hand(generator, blobs)
    again, found = generators.fitted(generators.create("dcgan", scale="smoke", num_steps=2), blobs)
    assert (built.source, found.source) == ("built", "cache")
    assert (first.sample([0, 1], 0).images == again.sample([0, 1], 0).images).all()
    assert generators.fitted(generator, blobs, retrain=True)[1].source == "built"
    assert not generators.is_at_hand(generators.create("dcgan", scale="smoke", num_steps=2, seed=1), blobs)


def test_a_damaged_generator_is_trained_again(blobs):
    generator = generators.create("dcgan", scale="smoke", num_steps=2)
    path = generators.fitted(generator, blobs)[1].path
    weights = (path / "weights.safetensors").read_bytes()
    (path / "weights.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.warns(UserWarning, match="Damaged cache entry"):
        assert generators.fitted(generator, blobs)[1].source == "built"
    assert (path / "weights.safetensors").read_bytes() == weights


def run_training(cache):
    environment = {**os.environ, "NBUTILS_CACHE": str(cache), "PYTHONPATH": str(ROOT / "tests")}
    return subprocess.Popen([sys.executable, "-c", TRAINING], env=environment, stdout=subprocess.PIPE, text=True)


def test_a_training_killed_with_signal_9_ends_in_the_same_weights_with_less_work(tmp_path):
    undisturbed, killed = run_training(tmp_path / "a"), run_training(tmp_path / "b")
    key = generators.create("dcgan", scale="smoke", num_steps=300).key(make_blobs(60, seed=0))
    entry = entry_name("generator", key)
    checkpoint = tmp_path / "b" / f"{entry}.partial" / "training-0.pt"
    for _ in range(1200):
        if checkpoint.is_file():
            break
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "b" / entry).exists()
    source, resumed_from = run_training(tmp_path / "b").communicate()[0].split()
    assert source == "built"
    assert int(resumed_from) > 0
    assert undisturbed.communicate()[0].split() == ["built", "0"]
    first, second = (load_file(tmp_path / run / entry / "weights.safetensors") for run in "ab")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not checkpoint.exists()


def test_only_phantoms_have_shipped_artefacts():
    assert cache_folder() != ROOT / "data" / "cache"
    with pytest.raises(ValueError, match="Only phantoms have shipped artefacts, 'folder:x' is none"):
        ship_all("folder:x")


@pytest.mark.parametrize(
    ("modality", "expected"),
    [
        ("prostate", ["all cases", "cases of Table 4", "few of them", "settings of Tables 1 to 3"]),
        ("chest", ["all cases", "mage-adapter-vq, as it is"]),
        ("dermoscopy", [*GENERATORS["mage_adapter"], "mage-adapter-vq, as it is"]),
        ("liver", [*GENERATORS["genmix"], "diffusion from the prior, 100 images"]),
    ],
)
def test_what_the_notebooks_draw_of_a_phantom_is_shipped(modality, expected):
    trainings = shipping.trainings(f"phantom:{modality}", seed=0)
    assert list(trainings)[: len(expected)] == expected
    found = {label: find("generator", generator.key(images)) for label, (generator, images) in trainings.items()}
    assert [label for label, artefact in found.items() if artefact is None or artefact.source != "shipped"] == []


def test_the_generators_of_every_size_are_shipped_and_those_of_the_marker_beside_them(blobs, monkeypatch):
    splits = Splits("blobs", blobs, blobs, blobs)
    monkeypatch.setattr(datasets, "load", lambda name, image_size: splits)
    montages = [f"{name}, {size} px" for size in (32, 64, 128) for name in ("stylegan2-ada", "ldm")]
    assert list(shipping.trainings("phantom:lung_ct", seed=0)) == montages
    radiographs = shipping.trainings("phantom:pneumonia", seed=0)
    assert list(radiographs) == [*montages, "vqvae2, 64 px"]
    assert {generator.config for generator, _ in radiographs.values()} == {
        generators.create(name, "demo", flip=False).config for name in GENERATORS["beauty_or_beast"]
    }


def test_the_utility_papers_generators_are_to_be_shipped_for_the_tissue_phantom(blobs, monkeypatch):
    monkeypatch.setattr(shipping, "_small", lambda dataset: blobs)
    trainings = shipping.trainings("phantom:tissue", seed=2)
    assert tuple(trainings) == GENERATORS["beauty_or_beast"]
    for name, (generator, images) in trainings.items():
        assert generator.config == generators.create(name, "demo").config
        assert (generator.seed, images) == (2, blobs)


def test_seeds_belong_to_their_purpose_and_noise_to_its_seed():
    assert derive_seed(0, "a", 1) == derive_seed(0, "a", 1)
    assert len({derive_seed(0), derive_seed(1), derive_seed(0, "a"), derive_seed(0, "a", 1)}) == 4
    seeds = image_seeds(3, 5, "sample")
    assert image_seeds(3, 9, "sample")[:5] == seeds
    noise = seeded_normal(seeds, (2, 3))
    assert torch.equal(seeded_normal(seeds[3:], (2, 3)), noise[3:])
    assert seeded_normal([], (2, 3)).shape == (0, 2, 3)


def test_samples_are_drawn_once_for_the_same_weights(blobs, monkeypatch):
    generator = generators.create("dcgan", scale="smoke")
    generator.fit(blobs)
    first = generators.samples(generator, [0, 1, 1], seed=3)
    np.testing.assert_array_equal(first.images, generator.sample([0, 1, 1], seed=3).images)
    drawn = []
    original = type(generator).sample
    monkeypatch.setattr(type(generator), "sample", lambda *a, **k: drawn.append(1) or original(*a, **k))
    again = generators.samples(generator, [0, 1, 1], seed=3)
    assert not drawn
    np.testing.assert_array_equal(first.images, again.images)
    assert first.class_names == again.class_names
    generators.samples(generator, [0, 1, 1], seed=4)
    next(generator.networks[0].parameters()).data += 1.0
    generators.samples(generator, [0, 1, 1], seed=3)
    assert len(drawn) == 2
