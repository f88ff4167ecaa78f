"""What data/weights ships: generators trained at demo scale on a phantom's training split, and its oracle reader."""

from collections.abc import Callable, Mapping

from nbutils import ablation, datasets, generators, marker, oracle, resolution, tuning
from nbutils.artefacts import ship
from nbutils.generators.base import Generator
from nbutils.generators.diffusion import RANDOM
from nbutils.generators.textual_inversion import TextualInversion
from nbutils.images import ImageSet
from nbutils.protocols import AS_THEY_LIE, GENERATORS
from nbutils.rebalancing import DIFFUSION
from nbutils.scales import RUN_SCALES
from nbutils.traditional import NUM_CASES, few_cases

SCALE = "demo"
FEW_IMAGES = (100, 300)
"""Sizes of the thinned training sets on which notebook 02 compares the prior with scratch, beside the whole one."""

Trainings = Mapping[str, tuple[Generator, ImageSet]]
"""What to train on which images, by a label."""


def ship_all(dataset: str, seeds: int = 1) -> None:
    """Train (or find in the cache) a phantom's oracle reader and what the notebooks draw of it; ship the first seed.

    Further generator seeds stay in the cache, where evidence runs find them. An interrupted call goes on where it
    stood. Raises ValueError for fewer seeds than one, and for a data set that is not a phantom: nothing trained on
    other images is shipped.
    """
    if seeds < 1:
        raise ValueError(f"seeds must be a whole number from 1, found {seeds}.")
    modality = oracle.modality_of(dataset)
    if modality is None:
        raise ValueError(f"Only phantoms have shipped artefacts, {dataset!r} is none; allowed: 'phantom:<modality>'.")
    oracle.reader(modality)
    print(f"oracle reader of {modality}: {ship('oracle', oracle.key(modality)).name}", flush=True)
    for seed in range(seeds):
        for label, (generator, images) in trainings(dataset, seed).items():
            _, artefact = generators.fitted(generator, images)
            folder = ship("generator", generator.key(images)) if seed == 0 else artefact.path
            print(f"{label}, seed {seed}: {folder.name}", flush=True)


def trainings(dataset: str, seed: int) -> Trainings:
    """Return the generators that the notebooks draw of a phantom, each with its training images, by a label."""
    return _TRAININGS.get(oracle.modality_of(dataset), _nothing)(dataset, seed)


def _genmix(dataset: str, seed: int) -> Trainings:
    """Return GenMix's generators (notebooks 30, 31), and diffusion from the prior or scratch on fewer images (02)."""
    train = _small(dataset)
    wanted = {name: (generators.create(name, SCALE, seed), train) for name in GENERATORS["genmix"]}
    for count in (*FEW_IMAGES, len(train)):
        for start in (None, RANDOM):
            generator = generators.create("diffusion", SCALE, seed, initial_weights=start)
            label = f"diffusion from {start or 'the prior'}, {count} images"
            wanted[label] = (generator, train.thinned(count, seed=0))
    return wanted


def _mage(dataset: str, seed: int) -> Trainings:
    """Return the generators of notebooks 10 and 11, and the placements of adapters that 10 compares."""
    train = _small(dataset)
    wanted = {name: (generators.create(name, SCALE, seed), train) for name in GENERATORS["mage_adapter"]}
    return wanted | _varied(ablation.placements(SCALE, train), seed)


def _utility(dataset: str, seed: int) -> Trainings:
    """Return the generators of notebook 50."""
    train = _small(dataset)
    return {name: (generators.create(name, SCALE, seed), train) for name in GENERATORS["beauty_or_beast"]}


def _iois(dataset: str, seed: int) -> Trainings:
    """Return the diffusion that classifiers guide (notebooks 20, 21), and the GANs beside it."""
    train = _small(dataset)
    return {name: (generators.create(name, SCALE, seed), train) for name in (DIFFUSION, *GENERATORS["iois"])}


def _dermoscopy(dataset: str, seed: int) -> Trainings:
    return {**_mage(dataset, seed), **_iois(dataset, seed)}


def _chest(dataset: str, seed: int) -> Trainings:
    """Return the embeddings of notebook 42, and the settings of adapters that notebook 10 varies."""
    return {**_all_cases(dataset, seed), **_varied(ablation.variants(SCALE, _small(dataset)), seed)}


def _varied(variants: Mapping[str, ablation.Variant], seed: int) -> Trainings:
    return {
        f"{ablation.METHOD}, {label}": (generators.create(ablation.METHOD, SCALE, seed, **changes), images)
        for label, (changes, images) in variants.items()
    }


def _prostate(dataset: str, seed: int) -> Trainings:
    """Return the embeddings of notebooks 40 to 43: of all cases, of those of Table 4, and of Tables 1 to 3."""
    train, (slices, counts) = _large(dataset), tuning.concepts(tuning.healthy_slices(_large(dataset)))
    cases = train.thinned(NUM_CASES[SCALE], seed=0)
    parts = {"all cases": train, "cases of Table 4": cases, "few of them": few_cases(cases)}
    wanted = {label: (_textual_inversion(seed), images) for label, images in parts.items()}
    return wanted | {"settings of Tables 1 to 3": (_textual_inversion(seed, num_vectors=counts), slices)}


def _resolution(dataset: str, seed: int) -> Trainings:
    """Return the generators of notebook 51, each trained at every size."""
    every = resolution.load(dataset, SCALE)
    return {
        f"{name}, {size} px": (generators.create(name, SCALE, seed, **AS_THEY_LIE), splits.train)
        for size, splits in every.items()
        for name in resolution.GENERATORS
    }


def _marker(dataset: str, seed: int) -> Trainings:
    """Return the generators of notebook 52; two of them are those of 51 at this size."""
    size = marker.IMAGE_SIZES[SCALE]
    train = marker.load(dataset, SCALE).train
    names = GENERATORS["beauty_or_beast"]
    return {f"{name}, {size} px": (generators.create(name, SCALE, seed, **AS_THEY_LIE), train) for name in names}


def _pneumonia(dataset: str, seed: int) -> Trainings:
    return {**_resolution(dataset, seed), **_marker(dataset, seed)}


def _all_cases(dataset: str, seed: int) -> Trainings:
    """Return the embeddings of notebook 42."""
    return {"all cases": (_textual_inversion(seed), _large(dataset))}


def _nothing(dataset: str, seed: int) -> Trainings:
    return {}


_TRAININGS: Mapping[str, Callable[[str, int], Trainings]] = {
    "liver": _genmix,
    "dermoscopy": _dermoscopy,
    "prostate": _prostate,
    "chest": _chest,
    "histology": _all_cases,
    "tissue": _utility,
    "pneumonia": _pneumonia,
    "lung_ct": _resolution,
}


def _small(dataset: str) -> ImageSet:
    """Return the training images at the size of most notebooks."""
    return datasets.load(dataset, image_size=RUN_SCALES[SCALE].image_size).train


def _large(dataset: str) -> ImageSet:
    """Return the training images at the size of the notebooks on textual inversion."""
    return datasets.load(dataset, image_size=TextualInversion.scales[SCALE].image_size).train


def _textual_inversion(seed: int, **settings) -> Generator:
    return generators.create("textual-inversion", SCALE, seed, **settings)
