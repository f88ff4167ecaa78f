"""Tables beside the images: patients, dates, file names."""

from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import pandas as pd

DAMAGED = (ValueError, KeyError, OSError, BadZipFile)  # what pandas and openpyxl raise for broken workbooks


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a text file with every cell as str, "" where it is empty; tabs in its first line tell it from a CSV file.

    Raises ValueError, naming the file, when it is no table or lacks one of the columns.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            separator = "\t" if "\t" in lines.readline() else ","
        table = pd.read_csv(path, dtype=str, keep_default_na=False, sep=separator)
    except ValueError as error:  # pandas' parser errors, and text that is not UTF-8
        raise ValueError(f"Cannot read {path} as a table with the columns {','.join(columns)}: {error}.") from error
    return _with_columns(table, path, columns)


def read_workbook(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read the first sheet of an Excel workbook as `read_table` reads a text file.

    Raises ValueError as `read_table` does, ImportError without openpyxl.
    """
    try:
        import openpyxl  # noqa: F401  pandas reads with it
    except ImportError as error:
        raise ImportError(
            f'{path} is read with openpyxl, which is not installed: pip install -e ".[datasets]"'
        ) from error
    try:
        table = pd.read_excel(path, dtype=str, keep_default_na=False, engine="openpyxl")
    except DAMAGED as error:
        raise ValueError(f"Cannot read {path} as an Excel workbook: {error}. Get the file again.") from error
    return _with_columns(table, path, columns)


def refuse_rows(path: Path, table: pd.DataFrame, bad: pd.Series, what: str, column: str) -> None:
    """Raise ValueError if the mask `bad` is true in any row, with the count and the first one's cell in `column`."""
    if bad.any():
        first = table.loc[bad, column].iloc[0]
        raise ValueError(f"{path}: {bad.sum()} of {len(table)} rows {what}, first {first!r}. Use the published file.")


def _with_columns(table: pd.DataFrame, path: Path, columns: Sequence[str]) -> pd.DataFrame:
    if not set(columns) <= set(table.columns):
        raise ValueError(f"{path} has the columns {','.join(table.columns)}; needed are {','.join(columns)}.")
    return table
