"""nbutils.training: the loop, its data order, averages, exact resume and NaN stop."""

import pytest
import torch
from conftest import make_blobs
from torch import nn

from nbutils import training
from nbutils.training import ImageBatches, Method, TrainingDivergedError, pace, train


class Regression(Method):
    """A noisy regression: dropout and noise make every step depend on the random state."""

    def __init__(self, fail_at=None):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            network = nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        super().__init__({"network": network}, {"adam": torch.optim.Adam(network.parameters())}, {"network": 0.9})
        self.fail_at, self.steps_taken, self.total = fail_at, 0, 0.0

    def step(self, step, images, labels):
        if step == self.fail_at:
            raise KeyboardInterrupt
        self.steps_taken += 1
        loss = (self.modules["network"](images + torch.randn_like(images)).squeeze(1) - labels).square().mean()
        self.optimizers["adam"].zero_grad()
        loss.backward()
        self.optimizers["adam"].step()
        self.total += loss.item()
        return {"loss": loss.detach()}

    def extra_state(self):
        return {"total": self.total}

    def load_extra_state(self, state):
        self.total = state["total"]


def fit(method, checkpoint=None, num_steps=20):
    batches = ImageBatches(make_blobs(30, seed=0), 8, seed=3, flip=True)
    return train(method, batches, num_steps, seed=5, description="test", checkpoint=checkpoint)


def flat(method):
    return torch.cat(
        [
            v.flatten().double()
            for part in (method.modules, method.averages)
            for m in part.values()
            for v in m.state_dict().values()
        ]
    )


def test_a_resumed_training_ends_in_the_same_weights_with_less_work(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    undisturbed = Regression()
    log = fit(undisturbed)
    path = tmp_path / "training.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(Regression(fail_at=13), path)
    resumed = Regression()
    resumed_log = fit(resumed, path)
    assert (resumed_log.resumed_from, resumed.steps_taken) == (13, 7)
    assert torch.equal(flat(resumed), flat(undisturbed))
    assert resumed.total == undisturbed.total
    assert resumed_log.curve.equals(log.curve)


def test_training_leaves_the_callers_random_state_alone():
    torch.manual_seed(0)
    expected = torch.randn(3)
    torch.manual_seed(0)
    fit(Regression())
    assert torch.equal(torch.randn(3), expected)


def test_a_nan_loss_stops_the_training_and_names_the_step():
    class Diverging(Regression):
        def step(self, step, images, labels):
            return {"loss": torch.tensor(float("nan") if step == 4 else 1.0)}

    with pytest.raises(TrainingDivergedError, match="loss is not finite at step 5 of 20"):
        fit(Diverging())


def test_the_average_follows_the_weights_with_warm_up():
    class Constant(Method):
        def __init__(self):
            super().__init__({"network": nn.Linear(1, 1)}, {}, {"network": 0.5})

        def step(self, step):
            with torch.no_grad():
                self.modules["network"].weight.fill_(step)
            return {"loss": torch.tensor(0.0)}

    method = Constant()
    train(method, lambda step: (), 3, seed=0, description="test")
    first, second = 0.0, 0.0 * (2 / 11) + 1 * (1 - 2 / 11)  # the first update copies; then decay (1 + n) / (10 + n)
    expected = second * (3 / 12) + 2 * (1 - 3 / 12)
    assert first == 0
    assert method.averages["network"].module.weight.item() == pytest.approx(expected)


def test_a_method_that_is_done_ends_the_training():
    class Done(Regression):
        def step(self, step, images, labels):
            self.done = step == 6
            return {"loss": torch.tensor(1.0)}

    log = fit(Done())
    assert log.num_steps == 7
    assert log.curve["step"].iloc[-1] == 7


def test_each_epoch_shows_every_image_once_and_batches_depend_on_the_step_alone():
    images = make_blobs(10, seed=0)
    batches = ImageBatches(images, 4, seed=0)
    drawn = torch.cat([batches.indices(step) for step in range(5)])
    assert sorted(drawn[:10].tolist()) == sorted(drawn[10:].tolist()) == list(range(10))
    assert drawn[:10].tolist() != drawn[10:].tolist()
    assert torch.equal(ImageBatches(images, 4, seed=0).indices(3), batches.indices(3))


def test_a_batch_may_be_larger_than_the_set():
    batches = ImageBatches(make_blobs(3, seed=0), 8, seed=0)
    assert torch.bincount(batches.indices(0), minlength=3).min() >= 2
    assert batches(1)[0].shape == (8, 1, 16, 16)


def test_flips_mirror_about_half_of_the_images():
    images = make_blobs(200, seed=0)
    plain, flipped = (ImageBatches(images, 200, seed=0, flip=flip)(0)[0] for flip in (False, True))
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(plain, flipped, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(plain, flipped, strict=True)]
    assert all(m or s for m, s in zip(mirrored, same, strict=True))
    assert 70 < sum(mirrored) < 130


def test_the_pace_rises_stays_and_falls():
    factors = [pace(step, num_steps=100, warmup_steps=9, cooldown=0.5) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9:50] == [1.0] * 41
    assert factors[75] == pytest.approx(25 / 51)
    assert 0 < factors[99] < 0.03
    assert {pace(step, 100, 0, 0.0) for step in range(100)} == {1.0}
