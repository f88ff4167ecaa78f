"""Where the results of a run lie; imports next to nothing, so that the runner starts at once."""

from pathlib import Path

from nbutils.files import ROOT, read_json

RECORD = "run.json"


def output_folder(notebook: str, scale: str, output_dir: str | None) -> Path:
    """Return where a run's results go; relative folders hang on the repository, not on the working directory."""
    return ROOT / (output_dir or Path("figures") / notebook / scale)


def last_line(folder: Path) -> str:
    """Return the line that names the main figure, table and claims of a finished run, as paths people can open."""
    shown = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
    main = read_json(folder / RECORD)["main"]
    return "  ".join(f"{word}: {shown / main[word]}" for word in ("figure", "table", "claims") if word in main)
