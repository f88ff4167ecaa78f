"""nbutils.guidance: Eq. 4 on a diffusion and a classifier known in closed form, and what an image depends on."""

import numpy as np
import pytest
import torch
from conftest import make_blobs
from test_generators_diffusion import MEAN, SD, gaussian_denoiser
from torch import nn

from nbutils import generators, guidance
from nbutils.classification import Classifier, build_network, network_input
from nbutils.generators.diffusion import Diffusion
from nbutils.generators.diffusion_training import DiffusionConfig
from nbutils.guidance import GUIDANCE, Guidance, GuidedSampler, guided_samples, guided_start, log_probability
from nbutils.images import to_float
from nbutils.protocols import ClassifierConfig
from nbutils.scales import SCALES

CONFIG = ClassifierConfig(network="test_resnet", num_epochs=1, batch_size=8, learning_rate=1e-3, patience=1)


def new_classifier(seed=0, channels=1) -> Classifier:
    """Return a classifier of two classes with random weights, which none of its outputs saturates."""
    torch.manual_seed(seed)
    return Classifier(build_network(CONFIG, 2, channels), CONFIG)


def fitted_diffusion(**settings) -> Diffusion:
    diffusion = generators.create("unconditional-diffusion", scale="smoke", num_snapshots=0, **settings)
    diffusion.fit(make_blobs(20, seed=0))
    return diffusion


@pytest.fixture(scope="module")
def diffusion() -> Diffusion:
    return fitted_diffusion()


class Denoiser(nn.Module):
    """The best network for independent pixels N(MEAN, SD²), as a network without classes."""

    num_classes = None

    def __init__(self, schedule, prediction):
        super().__init__()
        self.function = gaussian_denoiser(schedule, 1000, prediction)

    def forward(self, x, t, y=None):
        return self.function(x, t)


class LogLinear(nn.Module):
    """A classifier with log p(1 | x) = slope * sum(x) - 1000, but for the last digits."""

    def __init__(self, slope):
        super().__init__()
        self.slope = slope

    def forward(self, images):
        total = self.slope * images.flatten(1).sum(1)
        return torch.stack([torch.zeros_like(total), total - 1000], dim=1)


def known_diffusion(schedule, prediction) -> Diffusion:
    """Return a diffusion of images 1 x 8 x 8 that needs no training."""
    made = Diffusion(DiffusionConfig(8, 1, 1, schedule=schedule, prediction=prediction))
    made.networks, made.card = [Denoiser(schedule, prediction)], {"channels": 1, "image_size": 8}
    return made


@pytest.mark.parametrize(("sampler", "steps"), [("ddim", 150), ("ddpm", 100)])
@pytest.mark.parametrize(("schedule", "prediction"), [("linear", "epsilon"), ("cosine", "v")])
def test_guided_images_have_the_distribution_that_bayes_gives_them(sampler, steps, schedule, prediction):
    slope = 0.2 / SD**2  # a log-linear classifier moves the mean by slope * SD², exactly, and leaves the spread
    sampled = GuidedSampler(known_diffusion(schedule, prediction), Guidance(sampler=sampler, num_steps=steps))
    images = sampled.draw(Classifier(LogLinear(slope), CONFIG), [1] * 64, range(64)) / 127.5 - 1
    assert images.mean() == pytest.approx(MEAN + 0.2, abs=0.015)
    assert images.std() == pytest.approx(SD, rel=0.1)


def test_every_scale_has_its_guidance():
    assert set(GUIDANCE) == set(SCALES)
    for scale in SCALES:
        assert (
            len(
                GuidedSampler(known_diffusion("linear", "epsilon"), GUIDANCE[scale]).draw(
                    Classifier(LogLinear(1.0), CONFIG), [1], [0]
                )
            )
            == 1
        )


def test_the_guided_start_is_the_one_of_the_guided_noise():
    x, eps, score = torch.randn(3, 2, 1, 4, 4, dtype=torch.float64)
    alpha_bar = torch.tensor([0.1, 0.9], dtype=torch.float64)[:, None, None, None]
    guided = eps - 3.0 * (1 - alpha_bar).sqrt() * score
    starts = [(x - (1 - alpha_bar).sqrt() * noise) / alpha_bar.sqrt() for noise in (eps, guided)]
    torch.testing.assert_close(guided_start(starts[0], score, alpha_bar, 3.0), starts[1])


def seen_by_the_classifier(diffusion, read):
    """Return what a classifier is given during the guidance of one image."""
    classifier, seen = new_classifier(), []
    classifier.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    GuidedSampler(diffusion, Guidance(read=read, num_steps=4)).draw(classifier, [0], [5])
    return torch.cat(seen)


def test_the_classifier_reads_the_predicted_clean_image_or_the_noisy_one(diffusion):
    clean, noisy = (seen_by_the_classifier(diffusion, read) for read in ("clean", "noisy"))
    assert clean.abs().max() <= 1
    assert noisy[0].abs().max() > 1.5
    with pytest.raises(ValueError, match="Unknown value of read 'x0'; allowed: 'clean', 'noisy'"):
        GuidedSampler(diffusion, Guidance(read="x0"))


def test_the_classifier_reads_what_it_guides_as_it_reads_real_images(monkeypatch):
    classifier, images = new_classifier(), make_blobs(6, seed=1)
    read = log_probability(classifier, to_float(images.images), torch.from_numpy(images.labels)).exp()
    expected = classifier.probabilities(images)[np.arange(6), images.labels]
    torch.testing.assert_close(read.detach(), torch.from_numpy(expected))
    given = []
    monkeypatch.setattr(guidance, "network_input", lambda x, config: given.append(config) or network_input(x, config))
    log_probability(classifier, to_float(images.images), torch.from_numpy(images.labels))
    assert given == [CONFIG]


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_an_image_depends_on_its_seed_and_label_and_not_on_the_others(diffusion, sampler):
    sampled, classifier = GuidedSampler(diffusion, Guidance(sampler=sampler, num_steps=4)), new_classifier()
    together = sampled.draw(classifier, [0, 1, 1, 0], [3, 9, 5, 6]).astype(int)
    alone = sampled.draw(classifier, [1], [5]).astype(int)
    assert np.abs(alone[0] - together[2]).max() <= 1
    assert np.abs(together[2] - together[1]).max() > 10


def test_label_classifier_and_scale_change_the_image(diffusion):
    def drawn(label=0, seed=0, scale=20.0):
        return GuidedSampler(diffusion, Guidance(scale=scale, num_steps=4)).draw(new_classifier(seed), [label], [3])

    for other in (drawn(label=1), drawn(seed=1), drawn(scale=5.0)):
        assert (drawn() != other).any()
    assert (drawn(scale=0.0) == drawn(label=1, scale=0.0)).all()


def test_the_classifier_is_read_in_evaluation_mode_and_left_as_it_was(diffusion):
    classifier = new_classifier()
    sampled = GuidedSampler(diffusion, Guidance(num_steps=2))
    expected = sampled.draw(classifier, [0, 1], [0, 1])
    classifier.network.train()
    before = {name: value.clone() for name, value in classifier.network.state_dict().items()}
    torch.manual_seed(0)
    random = torch.get_rng_state()
    np.testing.assert_array_equal(sampled.draw(classifier, [0, 1], [0, 1]), expected)
    assert classifier.network.training
    assert all(torch.equal(value, before[name]) for name, value in classifier.network.state_dict().items())
    assert all(parameter.grad is None for parameter in classifier.network.parameters())
    assert not any(parameter.requires_grad for parameter in sampled.network.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_evaluations_are_counted_for_each_image(diffusion):
    evaluated = []
    handle = diffusion.networks[0].register_forward_pre_hook(lambda _, inputs: evaluated.append(len(inputs[0])))
    sampled = GuidedSampler(diffusion, Guidance(num_steps=3))
    sampled.draw(new_classifier(), [0] * 70, range(70))
    handle.remove()
    assert evaluated == [35] * 6
    assert sampled.network_evaluations == 210


def test_a_diffusion_of_classes_is_guided_with_its_classes():
    conditional = generators.create("diffusion", scale="smoke", num_steps=15, num_snapshots=0)
    conditional.fit(make_blobs(20, seed=0))
    sampled = GuidedSampler(conditional, Guidance(scale=0.0, num_steps=4))
    first, second = (sampled.draw(new_classifier(), [label], [0]) for label in (0, 1))
    assert (first != second).any()


def test_a_network_for_each_class_cannot_be_guided():
    each = generators.create("diffusion", scale="smoke", num_steps=1, per_class=True, num_snapshots=0)
    each.fit(make_blobs(20, seed=0))
    with pytest.raises(ValueError, match="one trained network for all classes, diffusion has 2"):
        GuidedSampler(each, Guidance())


def test_guided_samples_are_drawn_once_for_the_same_weights(diffusion, monkeypatch):
    arguments = {"labels": [0, 1, 1], "class_names": ("bright", "dark"), "seed": 2, "guidance": Guidance(num_steps=2)}
    first = guided_samples(diffusion, new_classifier(), **arguments)
    assert first.class_names == ("bright", "dark")
    assert first.labels.tolist() == [0, 1, 1]
    draws = []
    original = GuidedSampler.draw
    monkeypatch.setattr(GuidedSampler, "draw", lambda *a: draws.append(1) or original(*a))
    np.testing.assert_array_equal(guided_samples(diffusion, new_classifier(), **arguments).images, first.images)
    assert not draws
    for other in ({"seed": 3}, {"labels": [0, 1, 0]}, {"guidance": Guidance(num_steps=3)}):
        guided_samples(diffusion, new_classifier(), **{**arguments, **other})
    guided_samples(diffusion, new_classifier(seed=1), **arguments)
    assert len(draws) == 4
