"""picai:PATH — prostate MRI of the PI-CAI challenge, prepared as for textual inversion (section 3.3.1).

PATH holds what the challenge publishes, as its own tutorials lay it out:

- images/PATIENT/PATIENT_STUDY_{t2w,adc,hbv}.mha (<https://zenodo.org/records/6624726>); hbv is the DWI, at a high
  b-value,
- picai_labels, a clone of <https://github.com/DIAGNijmegen/picai_labels>, with one PATIENT_STUDY.nii.gz a case in
  the folders DELINEATIONS and GLANDS.

Where the paper is silent, or we differ:

- A case is positive if the first delineation found in DELINEATIONS has a voxel. The paper reads combined/, which the
  challenge's baseline makes: experts' delineations, and an AI's for the 205 cases without. Without combined/ we take
  the experts' delineations of those 205, published later, before the AI's.
- The slice of a positive case is that of the largest tumour area in pixels; the authors' code sums the labels, which
  are ISUP grades, so that a grade 5 counts more than twice a grade 2.
- ADC and DWI are resampled to the place of the T2W in the scanner; the authors' code crops each volume about its own
  centre, so that the modalities may show different places.
- Each modality goes from its minimum to its maximum over its own volume (code), clipped where splines overshoot.
- 300 pixels become image_size in one bicubic step (code: Lanczos to 512).
"""

import re
from pathlib import Path

import numpy as np

from nbutils.datasets.assembly import Collection, assemble, digest
from nbutils.datasets.layout import data_folder, require_files
from nbutils.datasets.sampling import draw, one_per_group
from nbutils.datasets.splits import SPLITS, Splits
from nbutils.datasets.volumes import read_volume, simpleitk
from nbutils.images import ImageSet, resize
from nbutils.progress import progress

CLASS_NAMES = ("negative", "positive")
PER_CLASS = 100  # negative and positive cases in each split, as in the paper
MODALITIES = ("t2w", "adc", "hbv")  # as red, green and blue
SPACING_MM = (0.5, 0.5, 3.0)  # x, y, z
CROP = (300, 300, 30)  # voxels in x, y, z: 150 x 150 x 90 mm
LABELS = "picai_labels"
DELINEATIONS = tuple(
    f"{LABELS}/csPCa_lesion_delineations/{folder}"
    for folder in ("combined", "human_expert/resampled", "human_expert/Pooch25", "AI/Bosma22a")
)
GLANDS = f"{LABELS}/anatomical_delineations/whole_gland/AI/Bosma22b"
FILE_NAME = re.compile(rf"(\d+_\d+)_({'|'.join(MODALITIES)})\.mha")


def load(where: str, image_size: int, seed: int, duplicates: str) -> Splits:
    """Draw PER_CLASS negative and positive cases for each split and show one axial slice of each.

    Images are (3, image_size, image_size): T2W, ADC and DWI. No patient gives more than one case. seed: of the draw.

    Raises ValueError for files that are missing or do not fit, ImportError without SimpleITK.
    """
    folder = data_folder(where, "picai:PATH", f"images and {LABELS}, see data/README.md")
    cases = _list_cases(folder)
    patients = np.array([case.split("_")[0] for case in cases])
    found = {case: _delineation(folder, case) for case in cases}
    bar = progress(cases, description="picai: delineations", unit="case")
    labels = np.array([_has_voxels(read_volume(found[case])) for case in bar], dtype=np.int64)
    kept = one_per_group(patients, cases, seed)
    chosen, splits, notes = draw(labels[kept], cases[kept], CLASS_NAMES, PER_CLASS, seed, SPLITS)
    chosen = kept[chosen]
    require_files(folder / GLANDS, (f"{case}.nii.gz" for case in cases[chosen[labels[chosen] == 0]]), "Clone it again.")
    bar = progress(cases[chosen], description="picai: slices", unit="case")
    raw = [case_slice(folder, case, found[case]) for case in bar]  # each (3, 300, 300)
    pixels = resize(np.stack(raw), image_size)  # (N, 3, image_size, image_size)
    images = ImageSet(pixels, labels[chosen], CLASS_NAMES, patients[chosen], "picai")
    digests = np.array([digest(image) for image in raw])
    notes = (*notes, "one case per patient", _sources([found[case] for case in cases]))
    return assemble(Collection(images, digests, splits, cases[chosen], notes), seed, duplicates)


def case_slice(folder: Path, case: str, delineation: Path) -> np.ndarray:
    """Return the slice of a case with most tumour, or the gland's median slice, (3, 300, 300) uint8: T2W, ADC, DWI."""
    paths = [_image_path(folder, case, modality) for modality in MODALITIES]
    volumes = [read_volume(path) for path in paths]
    grid = crop_grid(volumes[0])
    lesion = read_volume(delineation)
    if _has_voxels(lesion):
        index = largest_section(_on_grid(lesion, grid), f"The lesion of case {case} in {delineation}")
    else:
        path = folder / GLANDS / f"{case}.nii.gz"
        index = median_section(_on_grid(read_volume(path), grid), f"The prostate of case {case} in {path}")
    plane = grid[:, :, index : index + 1]
    return np.stack([_shown(volume, plane, path) for volume, path in zip(volumes, paths, strict=True)])


def crop_grid(volume):
    """Return an empty image: the central CROP voxels of a volume resampled to SPACING_MM, beyond its edge if need be.

    As in the challenge's picai_prep, the resampled volume begins at the first voxel and the crop at a whole voxel.
    """
    spacing, out = np.array(volume.GetSpacing()), np.array(SPACING_MM)
    resampled = np.round(np.array(volume.GetSize()) * spacing / out)
    first = np.trunc((resampled - CROP) / 2)
    grid = simpleitk().Image(CROP, simpleitk().sitkUInt8)
    grid.SetSpacing(SPACING_MM)
    grid.SetDirection(volume.GetDirection())
    grid.SetOrigin(volume.TransformContinuousIndexToPhysicalPoint((first * out / spacing).tolist()))
    return grid


def largest_section(inside: np.ndarray, what: str) -> int:
    """Return the index of the slice with most voxels of a mask (Z, Y, X) bool; `what` it shows, for the error."""
    return int(_areas(inside, what).argmax())


def median_section(inside: np.ndarray, what: str) -> int:
    """Return the index of the median slice of those that show a mask (Z, Y, X) bool, the lower of two."""
    return int(np.median(np.flatnonzero(_areas(inside, what))))


def _areas(inside: np.ndarray, what: str) -> np.ndarray:
    areas = inside.sum(axis=(1, 2))
    if not areas.any():
        size = " x ".join(f"{n * mm:.0f}" for n, mm in zip(CROP, SPACING_MM, strict=True))
        raise ValueError(f"{what} has no voxel in the central {size} mm; check the file or take the case away.")
    return areas


def _on_grid(mask, grid) -> np.ndarray:
    """Resample a mask to the grid by nearest neighbours, (Z, Y, X) bool."""
    sitk = simpleitk()
    return sitk.GetArrayFromImage(sitk.Resample(mask, grid, sitk.Transform(), sitk.sitkNearestNeighbor)) > 0


def _shown(volume, plane, path: Path) -> np.ndarray:
    """Resample a volume to a plane by cubic splines and map its whole range to 0..255, (300, 300) uint8."""
    sitk = simpleitk()
    values = sitk.GetArrayViewFromImage(volume)
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise ValueError(f"{path} holds one value only ({low:g}); get the file again or take the case away.")
    outside = low  # black, as the padding of the paper's code
    resampled = sitk.Resample(volume, plane, sitk.Transform(), sitk.sitkBSpline, outside, sitk.sitkFloat32)
    scaled = (sitk.GetArrayFromImage(resampled)[0] - low) / (high - low)
    return (255 * scaled.clip(0, 1)).round().astype(np.uint8)


def _has_voxels(mask) -> bool:
    return bool(simpleitk().GetArrayViewFromImage(mask).any())


def _image_path(folder: Path, case: str, modality: str) -> Path:
    return folder / "images" / case.split("_")[0] / f"{case}_{modality}.mha"


def _list_cases(folder: Path) -> np.ndarray:
    """Return the PATIENT_STUDY of every case, (N,) str in order; each has all modalities."""
    matches = [FILE_NAME.fullmatch(path.name) for path in folder.glob("images/*/*.mha")]
    cases = sorted({match[1] for match in matches if match})
    if not cases:
        raise ValueError(
            f"{folder} holds no images/PATIENT/PATIENT_STUDY_{{{','.join(MODALITIES)}}}.mha; picai:PATH takes the "
            f"folder into whose images/ the challenge's archives were unpacked. See data/README.md."
        )
    needed = [_image_path(folder, case, modality).relative_to(folder) for case in cases for modality in MODALITIES]
    require_files(folder, map(str, needed), f"Every case needs {', '.join(MODALITIES)}: unpack the archives again.")
    return np.array(cases)


def _delineation(folder: Path, case: str) -> Path:
    paths = [folder / source / f"{case}.nii.gz" for source in DELINEATIONS]
    for path in paths:
        if path.is_file():
            return path
    raise ValueError(
        f"No lesion delineation of case {case} in {folder}: looked for {case}.nii.gz in {', '.join(DELINEATIONS)}. "
        f"Clone the whole repository picai_labels; a case without lesion has an empty file there."
    )


def _sources(delineations: list[Path]) -> str:
    """Say for how many cases the tumour was delineated by whom."""
    parents = [path.parent.as_posix() for path in delineations]
    counts = {source.split("/", 2)[2]: sum(p.endswith(source) for p in parents) for source in DELINEATIONS}
    return "delineations: " + ", ".join(f"{source} {count}" for source, count in counts.items() if count)
