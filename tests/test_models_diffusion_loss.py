"""The hybrid loss against closed forms: Gaussians, the exact posterior, the stop-gradient, the 8-bit likelihood."""

import math

import pytest
import torch
from diffusers import DDPMScheduler
from torch.distributions import Normal, kl_divergence

from nbutils.models.diffusion_loss import (
    HybridLoss,
    discretised_log_likelihood,
    gaussian_kl,
    scheduler_arguments,
)

PREDICTIONS = ("epsilon", "v")


def images_and_steps(t) -> tuple[torch.Tensor, torch.Tensor]:
    """Return 8-bit images (B, 1, 4, 4) as -1..1, and time steps (B,)."""
    levels = torch.randint(0, 256, (len(t), 1, 4, 4), generator=torch.Generator().manual_seed(0))
    return levels / 127.5 - 1, torch.tensor(t)


def exact(loss: HybridLoss, images: torch.Tensor, fraction: float):
    """Return a model that knows the image, so predicts exactly, with a constant variance fraction."""

    def model(noisy, t, y):
        signal, spread = loss.signal[t], loss.spread[t]
        noise = (noisy - signal * images) / spread
        predicted = noise if loss.prediction == "epsilon" else signal * noise - spread * images
        return torch.cat([predicted, torch.full_like(noisy, fraction)], 1)

    return model


def test_gaussian_kl_is_that_of_torch():
    a, b = (
        Normal(torch.tensor([0.3, -1.0]), torch.tensor([0.5, 2.0])),
        Normal(torch.tensor([0.0, 1.0]), torch.tensor([1.5, 0.1])),
    )
    found = gaussian_kl(a.mean, a.variance.log(), b.mean, b.variance.log())
    torch.testing.assert_close(found, kl_divergence(a, b))


def test_likelihoods_of_all_grey_levels_add_up_to_one():
    levels = torch.arange(256) / 127.5 - 1
    for mean, sd in ((0.1, 0.05), (-0.98, 0.2), (1.4, 0.5)):
        log_likelihood = discretised_log_likelihood(levels, torch.tensor(mean), torch.tensor(2 * math.log(sd)))
        assert log_likelihood.exp().sum().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_exact_prediction_with_the_posterior_variance_costs_nothing(schedule, prediction):
    loss = HybridLoss(schedule, prediction=prediction)
    images, t = images_and_steps([1, 10, 500, 998])
    simple, vlb = loss(exact(loss, images, fraction=-1), images, t, None)
    torch.testing.assert_close(simple, torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(vlb, torch.zeros(4), atol=1e-4, rtol=0)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_larger_variance_costs_the_kl_of_the_two_gaussians(prediction):
    loss = HybridLoss("linear", prediction=prediction)
    images, t = images_and_steps([1, 500])
    _, vlb = loss(exact(loss, images, fraction=1), images, t, None)
    scheduler = DDPMScheduler(variance_type="fixed_small")
    posterior = torch.stack([scheduler._get_variance(step) for step in t])
    ratio = posterior / scheduler.betas[t]
    expected = 0.5 * (ratio - 1 - ratio.log()) / math.log(2)
    torch.testing.assert_close(vlb, expected, atol=1e-5, rtol=1e-2)


def test_step_is_that_of_the_scheduler():
    """Mean and variance agree with the ancestral step of diffusers, for an imperfect network."""
    loss = HybridLoss("linear")
    scheduler = DDPMScheduler(variance_type="learned_range", clip_sample=False)
    noisy, predicted, step = torch.randn(1, 1, 4, 4), torch.randn(1, 1, 4, 4), 400
    t = torch.tensor([step])
    mean = loss.mean_from_start[t] * loss._start(noisy, predicted, t) + loss.mean_from_noisy[t] * noisy
    fraction = torch.full_like(noisy, 0.3)
    generator = torch.Generator().manual_seed(3)
    drawn = scheduler.step(torch.cat([predicted, fraction], 1), step, noisy, generator=generator).prev_sample
    noise = torch.randn(noisy.shape, generator=torch.Generator().manual_seed(3))
    log_variance = torch.lerp(loss.log_smallest[t], loss.log_largest[t], (fraction + 1) / 2)
    torch.testing.assert_close(drawn, mean + (0.5 * log_variance).exp() * noise, atol=1e-4, rtol=1e-4)


def test_variational_term_trains_the_variance_alone():
    loss = HybridLoss("linear")
    images, t = images_and_steps([0, 1, 10, 900])
    out = torch.zeros(4, 2, 4, 4, requires_grad=True)
    _, vlb = loss(lambda x, t, y: out, images, t, None)
    vlb.sum().backward()
    assert not out.grad[:, :1].any()
    assert (out.grad[:, 1:] != 0).flatten(1).any(1).all()


def test_first_step_is_the_likelihood_of_the_image():
    loss = HybridLoss("linear")
    images, t = images_and_steps([0])
    _, vlb = loss(exact(loss, images, fraction=-1), images, t, None)
    sd = math.exp(0.5 * loss.log_smallest[0].item())
    inside = math.erf(1 / 255 / sd / math.sqrt(2))
    assert vlb.item() == pytest.approx(-math.log2(inside), abs=2e-3)


def test_fewer_steps_weigh_the_bound_less():
    images, t = images_and_steps([3, 50])
    model_of = lambda loss: exact(loss, images, fraction=1)  # noqa: E731
    loss = HybridLoss("linear", num_timesteps=100)
    _, vlb = loss(model_of(loss), images, t, None)
    noisy = loss.scheduler.add_noise(images, torch.zeros_like(images), t)
    predicted, fraction = model_of(loss)(noisy, t, None).chunk(2, 1)
    term = loss.variational_term(images, noisy, predicted, fraction, t)
    torch.testing.assert_close(vlb, 0.1 * term, rtol=1e-3, atol=1e-6)


def test_unknown_words():
    with pytest.raises(ValueError, match=r"Unknown noise schedule 'cosin'.*Did you mean 'cosine'"):
        scheduler_arguments("cosin", 1000, "v")
    with pytest.raises(ValueError, match="Unknown prediction 'x'"):
        HybridLoss("cosine", 1000, "x")
