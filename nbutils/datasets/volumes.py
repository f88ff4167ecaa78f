"""Volumes of medical scanners, read with SimpleITK: NIfTI, MHA, NRRD, DICOM series."""

import gzip
import zlib
from pathlib import Path

CHUNK = 2**24  # bytes unpacked at once


def simpleitk():
    """Import SimpleITK, which only data sets of volumes need."""
    try:
        import SimpleITK
    except ImportError as error:
        raise ImportError(
            'Volumes are read with SimpleITK, which is not installed: pip install -e ".[datasets]"'
        ) from error
    return SimpleITK


def read_volume(path: Path):
    """Read a scalar 3-D volume and turn its axes to left, posterior, superior, so that slices are seen from below.

    Raises ValueError, naming the file, when it cannot be read or has other dimensions, ImportError without SimpleITK.
    """
    sitk = simpleitk()
    try:
        if path.suffix == ".gz":
            _unpack_to_the_end(path)
        image = sitk.ReadImage(str(path))
    except (RuntimeError, OSError, EOFError, zlib.error) as error:
        reason = next((line for line in str(error).splitlines() if "ERROR" in line), error)
        raise ValueError(
            f"Cannot read the volume {path}: it is cut off, damaged or no volume; get it again. ({reason})"
        ) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise ValueError(f"{path} must be a scalar 3-D volume, found {image.GetDimension()}-D.")
    return sitk.DICOMOrient(image, "LPS")


def _unpack_to_the_end(path: Path) -> None:
    """Raise OSError, EOFError or zlib.error for a broken .gz file, which SimpleITK would fill up with zeros."""
    with gzip.open(path) as file:
        while file.read(CHUNK):
            pass
