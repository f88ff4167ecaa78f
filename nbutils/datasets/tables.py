"""CSV tables beside the images: patients, dates, file names."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a CSV file with every cell as str, "" where it is empty.

    Raises ValueError, naming the file, when it is no table or lacks one of the columns.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except ValueError as error:  # pandas' parser errors, and text that is not UTF-8
        raise ValueError(f"Cannot read {path} as a table with the columns {','.join(columns)}: {error}.") from error
    if not set(columns) <= set(table.columns):
        raise ValueError(f"{path} has the columns {','.join(table.columns)}; needed are {','.join(columns)}.")
    return table
