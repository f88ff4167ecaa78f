"""Parameters of a notebook's run: what papermill injected, and whether every name and value is allowed."""

import ast
import os
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from IPython import get_ipython

from nbutils.dataset_names import FORMS
from nbutils.scales import RUN_SCALES, SCALE_VARIABLE, at_scale, choose


def parsed_value(text: str):
    """Return a Python literal (2, 0.5, None, True, [1, 2]) as such, anything else as text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def injected_names() -> set[str]:
    """Return the names that papermill's injected cell assigns; it stands in IPython's history, `# Parameters` first."""
    shell = get_ipython()
    cells = shell.user_ns.get("In", []) if shell is not None else []
    names = set()
    for cell in cells:
        if cell.lstrip().startswith("# Parameters"):
            targets = [t for node in ast.parse(cell).body if isinstance(node, ast.Assign) for t in node.targets]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def refuse_unknown(given: Iterable[str], declared: Iterable[str], notebook: str) -> None:
    """Raise ValueError, with the closest declared name, for a given parameter that the notebook does not declare."""
    for name in sorted(set(given) - set(declared)):
        close = get_close_matches(name, list(declared), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"Unknown parameter {name!r}; {notebook} declares {', '.join(sorted(declared))}.{hint}")


def checked(
    parameters: Mapping[str, object],
    choices: Mapping[str, Sequence] | None = None,
    lists: Mapping[str, Sequence] | None = None,
) -> dict[str, object]:
    """Return a run's parameters with scale as the environment has it, and None replaced by what it stands for.

    parameters: those that every notebook declares, and its own. choices, lists: see runs.start_run.
    Raises ValueError for an unknown scale, and for a value of the wrong type or range.
    """
    scale = os.environ.get(SCALE_VARIABLE) or parameters["scale"]
    num_seeds = at_scale(RUN_SCALES, scale).num_seeds
    _check_values(parameters)
    resolved = {**parameters, "scale": scale, "num_seeds": parameters["num_seeds"] or num_seeds}
    for name, allowed in (choices or {}).items():
        _check_choice(name, parameters[name], allowed)
    for name, allowed in (lists or {}).items():
        given = parameters[name]
        resolved[name] = list(allowed) if given is None else _checked_list(name, given, allowed)
    _check_generator_seeds(resolved)
    _check_training_images(resolved)
    return resolved


def _check_values(parameters: Mapping[str, object]) -> None:
    """Raise ValueError for a shared parameter, or a number (num_...), of the wrong type or range."""
    rules = {
        "dataset": (_is_dataset, f"one of {', '.join(form for forms in FORMS.values() for form in forms)}"),
        "seed": (lambda v: _is_count(v, 0), "a whole number from 0"),
        "output_dir": (lambda v: v is None or (isinstance(v, str) and v), "a folder's name, or None"),
        "retrain": (lambda v: isinstance(v, bool), "True or False"),
        "max_steps": (lambda v: v is None or _is_count(v, 1), "a whole number from 1, or None"),
    }
    numbers = (lambda v: v is None or _is_count(v, 1), "a whole number from 1, or None")
    rules |= {name: numbers for name in parameters if name.startswith("num_") and name != "num_generator_seeds"}
    for name, (valid, expected) in rules.items():
        if not valid(parameters[name]):
            raise ValueError(f"Parameter {name} must be {expected}, found {parameters[name]!r}.")


def _is_dataset(value: object) -> bool:
    return isinstance(value, str) and value.partition(":")[0] in FORMS


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _check_choice(name: str, value: object, allowed: Sequence) -> None:
    if not isinstance(value, str):
        raise ValueError(f"Parameter {name} must be one of {', '.join(allowed)}, found {value!r}.")
    choose(f"value of {name}", value, dict.fromkeys(allowed))


def _checked_list(name: str, values: object, allowed: Sequence) -> list:
    """Return a list parameter whose items are all allowed, there is at least one, and none comes twice."""
    if not isinstance(values, list) or not values or len(set(map(str, values))) < len(values):
        raise ValueError(
            f"Parameter {name} must be a list of some of {', '.join(allowed)} without repeats, such as "
            f"{list(allowed[:2])}, or None for all; found {values!r}."
        )
    for value in values:
        _check_choice(name, value, allowed)
    return values


def _check_generator_seeds(parameters: Mapping[str, object]) -> None:
    count, most = parameters.get("num_generator_seeds", 1), parameters["num_seeds"]
    if not _is_count(count, 1) or count > most:
        raise ValueError(
            f"Parameter num_generator_seeds must be a whole number from 1 to num_seeds ({most}), as each classifier "
            f"seed takes one generator seed; found {count!r}."
        )


def _check_training_images(parameters: Mapping[str, object]) -> None:
    values = parameters.get("training_images")
    valid = isinstance(values, list) and values and all(_is_count(value, 1) for value in values)
    if values is not None and (not valid or len(set(values)) < len(values)):
        raise ValueError(
            "Parameter training_images must be a list of whole numbers from 1 without repeats, such as [30, 100], or "
            f"None; found {values!r}."
        )
