"""The four sizes of a run, and how a module picks its settings by one word."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

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
