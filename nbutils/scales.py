"""The four sizes of a run, and how a module picks its settings by one word."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeVar

SCALE_VARIABLE = "NBUTILS_SCALE"
"""Environment variable that overrides the scale of every run."""

SCALES = ("smoke", "demo", "gpu", "paper")

T = TypeVar("T")


def choose(what: str, name: str, options: Mapping[str, T]) -> T:
    """Return `options[name]`, or say in one line what was asked, what is allowed and what is closest.

    Raises ValueError if `name` is not a key of `options`; `what` is the word for it in the message.
    """
    if isinstance(name, str) and name in options:
        return options[name]
    close = get_close_matches(str(name), list(options), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"Unknown {what} {name!r}; allowed: {', '.join(map(repr, options))}.{hint}")


def at_scale(settings: Mapping[str, T], scale: str) -> T:
    """Return the settings of one scale; `settings` maps every word of SCALES to a frozen dataclass.

    Raises ValueError for an unknown scale.
    """
    return choose("scale", scale, settings)


@dataclass(frozen=True)
class RunScale:
    """What a scale means for a whole notebook.

    image_size: pixels. num_seeds: classifiers per method. live_steps: steps of the short training that a notebook
    shows. points: images of each kind in an embedding, at most of each class in its measures. threads: fixed, so that a
    machine with more cores gives the same numbers (NBUTILS_THREADS overrides it); the small networks gain nothing from
    more, and with one thread no second process is started for seconds of work.
    """

    image_size: int
    num_seeds: int
    live_steps: int
    points: int
    threads: int = 2


RUN_SCALES = {
    "smoke": RunScale(image_size=16, num_seeds=2, live_steps=4, points=24, threads=1),
    "demo": RunScale(image_size=32, num_seeds=3, live_steps=200, points=600),
    "gpu": RunScale(image_size=64, num_seeds=5, live_steps=500, points=600),
    "paper": RunScale(image_size=256, num_seeds=5, live_steps=500, points=600),
}
