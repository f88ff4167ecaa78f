"""What data/weights ships: generators trained at demo scale on a phantom's training split, and its oracle reader."""

from nbutils import datasets, generators, oracle
from nbutils.artefacts import ship
from nbutils.generators.diffusion import RANDOM
from nbutils.images import ImageSet
from nbutils.scales import RUN_SCALES

SCALE = "demo"
FEW_IMAGES = (100, 300)
"""Sizes of the thinned training sets on which notebook 02 compares the prior with scratch, beside the whole one."""


def ship_all(dataset: str, seeds: int = 1) -> None:
    """Train (or find in the cache) every generator and the oracle reader at demo scale; ship the first seed.

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
    train = datasets.load(dataset, image_size=RUN_SCALES[SCALE].image_size).train
    for seed in range(seeds):
        for name in generators.names():
            generator = generators.create(name, scale=SCALE, seed=seed)
            _, artefact = generators.fitted(generator, train)
            folder = ship("generator", generator.key(train)) if seed == 0 else artefact.path
            print(f"{name} seed {seed}: {folder.name}", flush=True)
        ship_starts(train, seed)


def ship_starts(train: ImageSet, seed: int) -> None:
    """Train, or find, the diffusion models of notebook 02: from the prior and from scratch, on few images and all."""
    for count in (*FEW_IMAGES, len(train)):
        images = train.thinned(count, seed=0)
        for start in (None, RANDOM):
            generator = generators.create("diffusion", scale=SCALE, seed=seed, initial_weights=start)
            _, artefact = generators.fitted(generator, images)
            folder = ship("generator", generator.key(images)) if seed == 0 else artefact.path
            print(f"diffusion from {start or 'the prior'}, {count} images, seed {seed}: {folder.name}", flush=True)
