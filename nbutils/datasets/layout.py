"""Folders and files where a data set must have them."""

from collections.abc import Iterable
from pathlib import Path


def data_folder(where: str, form: str, holds: str) -> Path:
    """Return the folder that was asked for as PATH in `form`, if it exists.

    holds: what belongs there, for the message. Raises ValueError when there is none.
    """
    folder = Path(where).expanduser()
    if not where or not folder.is_dir():
        what = f"No folder at '{folder.absolute()}'" if where else "No folder given"
        raise ValueError(f"{what}; {form} takes a folder of {holds}.")
    return folder


def first_existing(folder: Path, names: Iterable[str]) -> Path | None:
    """Return the first of the files or folders (relative to folder) that exists, None if there is none of them."""
    return next((folder / name for name in names if (folder / name).exists()), None)


def require_files(folder: Path, files: Iterable[str], advice: str) -> None:
    """Raise ValueError, with counts and advice, if any of the files (relative to folder) does not exist."""
    files = list(files)
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise ValueError(
            f"{folder}: {len(missing)} of {len(files)} files are missing, first {missing[0]}. {advice} "
            f"See data/README.md."
        )
