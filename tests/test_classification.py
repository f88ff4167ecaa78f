"""nbutils.classification: training on a policy, selection on validation, resuming."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from conftest import make_blobs
from torch.nn.functional import cross_entropy

from nbutils import classification, training, weights
from nbutils.artefacts import entry_name
from nbutils.augmentation import Plain, append
from nbutils.backbone import start_from_backbone
from nbutils.classification import build_network, train_classifier
from nbutils.datasets import Splits
from nbutils.images import to_float
from nbutils.imbalance import class_balanced_weights, focal_loss
from nbutils.protocols import CLASSIFIERS, ClassifierConfig, config_at, tuning_config
from nbutils.scales import SCALES

CONFIG = ClassifierConfig(network="test_resnet", num_epochs=4, batch_size=16, learning_rate=3e-3, patience=4)


@pytest.fixture
def splits():
    return Splits("blobs", train=make_blobs(60, 0), val=make_blobs(30, 1), test=make_blobs(30, 2))


def fit(splits, config=CONFIG, policy=None, **training_options):
    policy = policy or Plain(splits.train)
    return train_classifier(policy, splits.val, config, seed=0, epoch_images=len(splits.train), **training_options)


def test_a_classifier_learns_bright_from_dark(splits):
    classifier = fit(splits)
    assert (classifier.predict(splits.test) == splits.test.labels).mean() > 0.9
    probabilities = classifier.probabilities(splits.test)
    assert probabilities.shape == (30, 2)
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_features_do_not_depend_on_the_batch(splits):
    classifier = fit(splits, max_steps=2)
    whole = classifier.features(splits.test)
    parts = np.concatenate([classifier.features(splits.test.subset(rows)) for rows in (range(7), range(7, 30))])
    assert whole.shape[0] == 30
    np.testing.assert_allclose(whole, parts, atol=1e-4)


def test_the_best_validation_epoch_is_kept_and_patience_ends_the_training(splits, monkeypatch):
    given = iter([0.3, 0.9, 0.5, 0.4, 0.2, 0.1])
    monkeypatch.setitem(classification.SELECTIONS, "macro_f1", lambda *_: next(given))
    kept = {}

    def remember(self, epoch, original=classification.Training._select):
        score = original(self, epoch)
        kept[epoch] = {k: v.clone() for k, v in self.modules["network"].state_dict().items()}
        return score

    monkeypatch.setattr(classification.Training, "_select", remember)
    config = ClassifierConfig("test_resnet", num_epochs=6, batch_size=16, learning_rate=1e-3, patience=2)
    classifier = fit(splits, config)
    assert list(kept) == [1, 2, 3, 4]  # best epoch 2, then a patience of 2
    weights = classifier.network.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in kept[2].items())


def test_an_epoch_is_measured_in_real_images_whatever_the_pool(splits):
    large = Plain(append(splits.train, make_blobs(120, 5)))
    assert fit(splits).log.num_steps == fit(splits, policy=large).log.num_steps == 16


def test_an_epoch_of_a_fixed_length_does_not_ask_how_many_images_are_real(splits):
    config = replace(CONFIG, epoch_steps=3)
    assert fit(splits, config).log.num_steps == 12
    assert fit(splits, config).log.curve["val_macro_f1"].count() == 4


def test_the_epoch_with_the_best_auc_is_kept_where_the_config_says_so(splits, monkeypatch):
    given = iter([0.3, 0.9, 0.5, 0.4])
    monkeypatch.setitem(classification.SELECTIONS, "auc", lambda *_: next(given))
    curve = fit(splits, replace(CONFIG, selection="auc")).log.curve
    assert curve["val_auc"].dropna().tolist() == pytest.approx([0.3, 0.9, 0.5, 0.4])
    with pytest.raises(ValueError, match="Unknown selection score 'area'"):
        fit(splits, replace(CONFIG, selection="area"))


def test_settings_at_their_default_are_not_part_of_the_key():
    assert set(CONFIG.key()) == {"network", "num_epochs", "batch_size", "learning_rate", "patience"}
    assert replace(CONFIG, selection="auc").key() == {**CONFIG.key(), "selection": "auc"}


def test_the_names_of_what_papers_without_newer_settings_trained_stay():
    assert config_at("demo", paper="genmix").key() == {
        "network": "test_byobnet", "num_epochs": 16, "batch_size": 64, "learning_rate": 2e-3, "patience": 8,
        "initial_weights": "prior", "max_epoch_images": 768,
    }  # fmt: skip


IMBALANCED = replace(
    CONFIG, optimizer="sgd", momentum=0.9, milestones=(1, 3), learning_rate_decay=0.5, crop=0.8, rotation=30.0, flip=0.5
)


def new_training(splits, config, class_counts=(30, 30)):
    """Return a training at its beginning, of 4 steps an epoch, and its batches."""
    torch.manual_seed(0)
    network = build_network(config, 2, 1)
    batches = Plain(splits.train).batches(config.batch_size, seed=0)
    return classification.Training(network, config, np.array(class_counts), splits.val, steps_per_epoch=4), batches


def test_the_learning_rate_falls_after_each_milestone(splits):
    method, batches = new_training(splits, IMBALANCED)
    rates = []
    for step in range(16):
        rates.append(method.optimizers["network"].param_groups[0]["lr"])
        method.step(step, *batches(step))
    assert rates == pytest.approx([3e-3] * 4 + [1.5e-3] * 8 + [0.75e-3] * 4)


def test_sgd_has_the_momentum_and_the_weight_decay_of_the_config(splits):
    method, batches = new_training(splits, replace(IMBALANCED, weight_decay=0.1, milestones=()))
    weight = next(method.modules["network"].parameters())
    speed = torch.zeros_like(weight)
    for step in range(2):
        before = weight.detach().clone()
        method.step(step, *batches(step))
        speed = 0.9 * speed + weight.grad + 0.1 * before
        torch.testing.assert_close(weight.detach(), before - 3e-3 * speed)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("cross-entropy", lambda logits, targets: cross_entropy(logits, targets)),
        ("focal", lambda logits, targets: focal_loss(logits, targets, 3.0)),
        (
            "class-balanced-focal",
            lambda logits, targets: focal_loss(logits, targets, 3.0, class_balanced_weights([50, 10], 0.9)),
        ),
    ],
)
def test_the_loss_is_the_one_of_the_config(splits, loss, expected):
    config = replace(CONFIG, loss=loss, focal_gamma=3.0, class_balanced_beta=0.9)
    method, batches = new_training(splits, config, class_counts=(50, 10))
    images, targets = batches(0)
    with torch.no_grad():
        logits = method.modules["network"](images)
    torch.testing.assert_close(method.step(0, images, targets)["loss"], expected(logits, targets))


def test_class_balanced_weights_count_the_pool_of_the_policy(splits, monkeypatch):
    counted = []
    monkeypatch.setattr(classification, "loss_function", lambda _, counts: counted.append(counts) or cross_entropy)
    fit(splits, policy=Plain(splits.train.subset(range(31))), max_steps=1)
    assert [counts.tolist() for counts in counted] == [[16, 15]]


@pytest.mark.parametrize(("setting", "what"), [("loss", "loss"), ("optimizer", "optimizer")])
def test_an_unknown_loss_or_optimizer_is_named(splits, setting, what):
    with pytest.raises(ValueError, match=f"Unknown {what} 'focl'; allowed: "):
        fit(splits, replace(CONFIG, **{setting: "focl"}), max_steps=1)


def test_training_images_are_changed_and_validation_images_are_not(splits):
    seen = []
    method, batches = new_training(splits, IMBALANCED)
    method.modules["network"].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().cpu()))
    for step in range(4):
        method.step(step, *batches(step))
    training_images, val_images = torch.cat(seen[:4]), torch.cat(seen[4:])
    assert not torch.isclose(training_images[:16], batches(0)[0].cpu(), atol=0.1).all()
    assert torch.equal(val_images, to_float(splits.val.images))


def test_an_epoch_has_the_steps_that_its_images_fill():
    assert CONFIG.steps_per_epoch(60) == 4
    assert replace(CONFIG, max_epoch_images=32).steps_per_epoch(60) == 2
    assert replace(CONFIG, epoch_steps=7).steps_per_epoch(60) == 7


@pytest.mark.parametrize("scale", SCALES)
def test_the_learning_rate_of_iois_falls_at_the_same_shares_of_the_training_but_later_at_demo_scale(scale):
    config = config_at(scale, paper="iois")
    shares = (0.8, 0.93) if scale == "demo" else (0.3, 0.6, 0.9)
    assert config.milestones == tuple(round(share * config.num_epochs) for share in shares)
    assert config.patience == config.num_epochs


@pytest.mark.parametrize("config", [CONFIG, IMBALANCED], ids=["adam", "sgd"])
def test_an_interrupted_classifier_ends_in_the_same_weights(splits, config, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    undisturbed = fit(splits, config)
    original = classification.Training.step

    def killed(self, step, *batch):
        if step == 9:
            raise KeyboardInterrupt
        return original(self, step, *batch)

    monkeypatch.setattr(classification.Training, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(splits, config, checkpoint=tmp_path / "training.pt")
    monkeypatch.setattr(classification.Training, "step", original)
    resumed = fit(splits, config, checkpoint=tmp_path / "training.pt")
    assert resumed.log.resumed_from == 9
    pd.testing.assert_frame_equal(resumed.log.curve, undisturbed.log.curve)
    weights = undisturbed.network.state_dict()
    assert all(torch.equal(resumed.network.state_dict()[name], value) for name, value in weights.items())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("paper", CLASSIFIERS)
def test_every_scale_of_every_paper_builds(paper, scale):
    config = config_at(scale, paper=paper)
    with torch.device("meta"):
        network = build_network(replace(config, initial_weights="scratch"), num_classes=3, channels=1).eval()
        size = config.input_size or 32
        assert network(torch.zeros(1, 1, size, size)).shape == (1, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_prior_is_loaded_but_for_the_last_layer(channels):
    config = config_at("demo")
    assert config.initial_weights == "prior"
    network, prior = build_network(config, 3, channels), weights.load_state_dict("prior-backbone")
    assert network.head.fc.out_features == 3
    kept = {name: value for name, value in network.state_dict().items() if name.startswith("stages.")}
    assert len(kept) > 50
    assert all(torch.equal(value, prior[name].to(value.dtype)) for name, value in kept.items())
    first = prior["stem.conv.weight"].float()
    assert torch.equal(network.stem.conv.weight, first if channels == 3 else first.sum(1, keepdim=True))


def test_grey_images_look_to_the_prior_like_the_same_in_colour():
    torch.manual_seed(0)
    images = torch.rand(2, 1, 32, 32) * 2 - 1
    grey, colour = (build_network(config_at("demo"), 3, channels).eval() for channels in (1, 3))
    with torch.inference_mode():
        expected = colour.forward_features(images.expand(-1, 3, -1, -1))
        torch.testing.assert_close(grey.forward_features(images), expected, rtol=1e-4, atol=1e-4)


def test_a_network_without_a_prior_is_refused():
    with pytest.raises(ValueError, match="no prior of the network 'vgg16', only of test_byobnet, test_vit, swin_tiny"):
        config_at("paper", "prior")


def test_a_prior_that_is_not_shipped_is_asked_for_with_the_command_that_trains_it(monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "PRIORS", tmp_path)
    with pytest.raises(FileNotFoundError, match="python -m nbutils train-prior backbone-gpu"):
        build_network(config_at("gpu"), 3, 1)


def test_weights_of_another_network_are_refused():
    network = timm.create_model("test_resnet", num_classes=3, in_chans=1)
    with pytest.raises(ValueError, match="The weights do not fit the network"):
        start_from_backbone(network, "prior-backbone", 1)


def test_the_key_holds_the_priors_checksum(splits, monkeypatch):
    arguments = Plain(splits.train), splits.val
    scratch, prior = (classification.classifier_key(*arguments, config_at("demo", init)) for init in ("scratch", None))
    assert "prior" not in scratch
    assert prior["prior"] == weights.checksum("prior-backbone")


def test_unknown_initial_weights_are_named():
    with pytest.raises(ValueError, match=r"Unknown classifier_init 'imagnet'.*Did you mean 'imagenet'"):
        config_at("demo", "imagnet")


def test_pretrained_networks_get_images_normalised_as_they_were_trained():
    images = torch.tensor([-1.0, 1.0]).repeat_interleave(3).reshape(2, 3, 1, 1)
    config = replace(config_at("paper"), input_size=None)
    black, white = classification.network_input(images, config)[:, :, 0, 0]
    torch.testing.assert_close(black, -torch.tensor([0.485 / 0.229, 0.456 / 0.224, 0.406 / 0.225]))
    torch.testing.assert_close(white, torch.tensor([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225]))
    grey = classification.network_input(images[:, :1], config)
    torch.testing.assert_close(
        grey.flatten(), torch.tensor([-1.0, 1.0]) * 0.449 / 0.226 + torch.tensor([0, 0.102 / 0.226])
    )


def cached_classifier(splits, config=CONFIG):
    """Return a classifier that is in the cache, and the name of its artefact."""
    arguments, training_options = (Plain(splits.train), splits.val, config), {"seed": 0, "epoch_images": 60}
    classifier = classification.fitted_classifier(*arguments, **training_options, description="extractor")
    return classifier, entry_name("classifier", classification.classifier_key(*arguments, **training_options))


def test_the_last_layer_alone_is_trained_from_a_cached_classifier(splits):
    extractor, name = cached_classifier(splits, replace(CONFIG, num_epochs=1))
    config = replace(CONFIG, num_epochs=2, weight_decay=0.1, initial_classifier=name, last_layer_only=True)
    before = {key: value.clone() for key, value in extractor.network.state_dict().items()}
    start = build_network(config, 2, 1).state_dict()
    assert all(torch.equal(start[key], value) for key, value in before.items())
    after = fit(splits, config).network.state_dict()
    changed = {key for key, value in before.items() if not torch.equal(after[key], value)}
    assert changed == {"fc.weight", "fc.bias"}  # not the batch statistics either


def test_a_tuned_classifier_comes_from_the_cache_without_the_one_it_started_from(splits, monkeypatch):
    _, name = cached_classifier(splits, replace(CONFIG, num_epochs=1))
    config = replace(CONFIG, num_epochs=1, initial_classifier=name, last_layer_only=True)
    first, _ = cached_classifier(splits, config)
    monkeypatch.setattr(classification, "start_from_classifier", None)
    again, _ = cached_classifier(splits, config)
    np.testing.assert_array_equal(first.probabilities(splits.test), again.probabilities(splits.test))


def test_an_initial_classifier_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match="'classifier-0' from which training is to start is not in the cache"):
        build_network(replace(CONFIG, initial_classifier="classifier-0"), 2, 1)


def test_the_last_epoch_is_kept_where_the_config_says_so_and_nothing_stops_it(splits, monkeypatch):
    given = iter([0.9, 0.3, 0.2, 0.1])
    monkeypatch.setitem(classification.SELECTIONS, "macro_f1", lambda *_: next(given))
    last = {}

    def remember(self, epoch, original=classification.Training._select):
        score = original(self, epoch)
        last.update({k: v.clone() for k, v in self.modules["network"].state_dict().items()})
        return score

    monkeypatch.setattr(classification.Training, "_select", remember)
    kept = fit(splits, replace(CONFIG, patience=1, keep_last=True)).network.state_dict()
    assert next(given, None) is None  # all four epochs
    assert all(torch.equal(kept[name], value) for name, value in last.items())


@pytest.mark.parametrize(("scale", "epochs"), [("smoke", 2), ("demo", 20), ("paper", 20)])
def test_tuning_has_the_papers_epochs_and_trains_the_last_layer_alone(scale, epochs):
    config = config_at(scale, paper="beauty_or_beast")
    tuned = tuning_config(replace(config, milestones=(1,)), scale)
    expected = replace(config, num_epochs=epochs, patience=epochs, last_layer_only=True, keep_last=True)
    assert tuned == expected
