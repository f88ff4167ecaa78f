"""Where the results of a run lie; imports next to nothing, so that the runner starts at once."""

from collections.abc import Mapping
from pathlib import Path

from nbutils.dataset_names import folder_name
from nbutils.files import ROOT, read_json
from nbutils.protocols import SHOWPIECE
from nbutils.scales import choose

RECORD = "run.json"


def output_folder(notebook: str, parameters: Mapping[str, object], paper: str) -> Path:
    """Return where a run's results go: output_dir if it is given, else a folder in figures/<notebook>.

    It is called <scale> if the data are the paper's showpiece, <scale>-<data set> if not, so that no other data take
    the place of the results that figures/ shows. parameters: scale, dataset and output_dir are read. Relative folders
    hang on the repository, not on the working directory. Raises ValueError for an unknown paper.
    """
    scale, dataset = parameters["scale"], parameters["dataset"]
    shown = dataset == choose("paper", paper, SHOWPIECE)
    default = Path("figures") / notebook / (scale if shown else f"{scale}-{folder_name(dataset)}")
    return ROOT / (parameters["output_dir"] or default)


def last_line(folder: Path) -> str:
    """Return the line that names the main figure, table and claims of a finished run, as paths people can open."""
    shown = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
    main = read_json(folder / RECORD)["main"]
    return "  ".join(f"{word}: {shown / main[word]}" for word in ("figure", "table", "claims") if word in main)
