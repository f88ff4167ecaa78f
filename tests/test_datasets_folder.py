"""Folders of one's own images: layouts, image modes, patients, and every way to get them wrong."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import write_classes, write_noise
from PIL import Image

from nbutils import datasets
from nbutils.datasets.audit import LeakError
from nbutils.datasets.pictures import read_picture, to_square

RNG = np.random.default_rng(0)


@pytest.fixture
def flat(tmp_path) -> Path:
    """20 images in two class folders."""
    return write_classes(tmp_path / "pets")


@pytest.fixture
def parted(tmp_path) -> Path:
    """Two classes in Training, VALID and testing."""
    for split, count in (("Training", 6), ("VALID", 2), ("testing", 3)):
        write_classes(tmp_path / "pets" / split, count=count)
    return tmp_path / "pets"


def load(folder, **options):
    return datasets.load(f"folder:{folder}", **{"image_size": 8, **options})


def test_class_folders_are_split_by_seed(flat):
    splits = load(flat)
    assert splits.name == "folder:pets"
    assert [len(images) for images in splits.splits().values()] == [14, 2, 4]
    assert splits.train.class_names == ("cat", "dog")
    assert splits.train.images.shape[1:] == (1, 8, 8)
    assert "patients are unknown" in splits.notes[0]
    assert load(flat).test.groups.tolist() == splits.test.groups.tolist()
    assert load(flat, seed=1).test.groups.tolist() != splits.test.groups.tolist()
    assert load(flat, image_size=16).test.groups.tolist() == splits.test.groups.tolist()


def test_train_val_test_folders(parted):
    splits = load(parted)
    assert [len(images) for images in splits.splits().values()] == [12, 4, 6]
    assert splits.train.groups[0] == "Training/cat/0.png"
    assert splits.test.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_val_is_carved_from_train(parted):
    shutil.rmtree(parted / "VALID")
    splits = load(parted)
    assert len(splits.test) == 6
    assert all(group.startswith("Training/") for group in splits.val.groups)


def test_labels_follow_their_images(flat):
    for path in (flat / "cat").iterdir():
        Image.fromarray(np.full((9, 9), 200 + int(path.stem), np.uint8)).save(path)
    splits = load(flat)
    for images in splits.splits().values():
        bright = images.images.min(axis=(1, 2, 3)) >= 200
        assert np.array_equal(bright, images.labels == 0)
        assert all(group.startswith("cat/") == is_cat for group, is_cat in zip(images.groups, bright, strict=True))


def test_groups_stay_together(flat):
    rows = [f"{name}/{i}.png,patient{i // 2}" for name in ("cat", "dog") for i in range(10)]
    (flat / "groups.csv").write_text("\n".join(["file,group", *rows]))
    splits = load(flat)
    groups = [set(images.groups) for images in splits.splits().values()]
    assert set.union(*groups) == {f"patient{i}" for i in range(5)}
    assert sum(map(len, groups)) == 5
    assert not any("unknown" in note for note in splits.notes)


# image modes


def test_16_bit_images_keep_the_upper_8_bits(tmp_path):
    pixels = np.array([[0, 255], [256, 65535]], dtype=np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(pixels).save(tmp_path / name)
        read = read_picture(tmp_path / name)
        assert read.dtype == np.uint16
        assert np.array_equal(read, pixels)
    assert to_square(np.repeat(np.repeat(pixels, 4, 0), 4, 1), 8)[0, ::4, ::4].tolist() == [[0, 0], [1, 255]]


def test_12_bits_in_16_are_noted(flat):
    for path in sorted((flat / "cat").iterdir()):
        Image.fromarray(RNG.integers(0, 4096, (12, 12), dtype=np.uint16)).save(path)
    notes = load(flat).notes
    assert any("10 of 20 images have 16 bits" in note for note in notes)
    assert any("come out nearly black; stretch the files" in note for note in notes)


def test_colour_modes_become_rgb(tmp_path):
    colours = RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    image = Image.fromarray(colours)
    image.save(tmp_path / "rgb.png")
    image.convert("CMYK").save(tmp_path / "cmyk.tif")
    image.quantize(64).save(tmp_path / "palette.png")
    assert np.array_equal(read_picture(tmp_path / "rgb.png"), colours)
    assert np.abs(read_picture(tmp_path / "cmyk.tif").astype(int) - colours).max() <= 1
    assert read_picture(tmp_path / "palette.png").shape == (6, 6, 3)


def test_transparent_pixels_lie_over_black(tmp_path):
    pixels = np.full((4, 4, 4), 200, np.uint8)
    pixels[:2, :, 3], pixels[2:, :, 3] = 0, 255
    Image.fromarray(pixels, "RGBA").save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png")[:, 0].tolist() == [0, 0, 200, 200]


def test_grey_in_any_mode_is_grey(tmp_path):
    grey = RNG.integers(0, 256, (6, 6), dtype=np.uint8)
    for mode in ("L", "RGB", "RGBA", "LA"):
        Image.fromarray(grey).convert(mode).save(tmp_path / f"{mode}.png")
        assert np.array_equal(read_picture(tmp_path / f"{mode}.png"), grey), mode
    Image.fromarray(grey > 127).save(tmp_path / "1.png")
    assert np.array_equal(read_picture(tmp_path / "1.png"), (grey > 127) * np.uint8(255))


def test_exif_orientation_is_followed(tmp_path):
    image = Image.fromarray(np.tile(np.arange(16, dtype=np.uint8)[:, None] * 16, (1, 8)))  # 8 wide, 16 high
    exif = image.getexif()
    exif[274] = 6  # to be turned by 90 degrees clockwise
    image.save(tmp_path / "a.png", exif=exif)
    turned = read_picture(tmp_path / "a.png")
    assert turned.shape == (8, 16)
    assert turned[0, 0] == 240


def test_one_colour_image_makes_the_set_rgb(flat):
    write_noise(flat / "cat" / "colour.png", (12, 12, 3))
    images = load(flat).train
    assert images.channels == 3
    dogs = images.of_class(1).images
    assert np.array_equal(dogs[:, 0], dogs[:, 1])


def test_centre_of_the_short_edge_is_kept(tmp_path):
    pixels = np.zeros((8, 20), np.uint8)
    pixels[:, 6:14] = 255
    assert to_square(pixels, 8).min() == 255
    assert to_square(pixels.T, 8).min() == 255


def test_non_square_images_are_noted(flat):
    write_noise(flat / "cat" / "wide.png", (12, 30))
    assert any("1 of 21 images were not square" in note for note in load(flat).notes)


def test_resizing_is_antialiased():
    lines = np.tile(np.array([0, 255], np.uint8), (64, 32))
    assert np.abs(to_square(lines, 8).astype(int) - 127).max() < 20


# what lies around


def test_clutter_is_skipped_and_other_files_are_noted(flat):
    for name in (".DS_Store", "Thumbs.db", "README.txt", "notes.txt"):
        (flat / "cat" / name).write_text("no image")
    (flat / ".hidden").mkdir()
    (flat / "README.txt").write_text("about")
    splits = load(flat)
    assert "skipped files that are no images: .txt 2" in splits.notes
    assert splits.train.num_classes == 2


# bad input


def test_missing_folder(tmp_path):
    with pytest.raises(ValueError, match=r"No folder at '.*nowhere'; folder:PATH takes a folder of class folders"):
        load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="No folder given"):
        datasets.load("folder:")


def test_empty_class_folder(flat):
    (flat / "eel").mkdir()
    with pytest.raises(ValueError, match=r"eel holds no image; found nothing, allowed are \.bmp"):
        load(flat)
    (flat / "eel" / "scan.dcm").write_text("x")
    with pytest.raises(ValueError, match=r"eel holds no image; found \.dcm 1"):
        load(flat)


def test_one_class_only(flat):
    shutil.rmtree(flat / "dog")
    with pytest.raises(ValueError, match="2 or more class folders are needed, found cat"):
        load(flat)


def test_no_class_at_all(tmp_path):
    write_noise(tmp_path / "a.png")
    with pytest.raises(ValueError, match="2 or more class folders are needed, found none"):
        load(tmp_path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_truncated_image(flat, suffix):
    path = write_noise(flat / "cat" / f"broken{suffix}", (64, 64))
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(
        ValueError, match=rf"Cannot read the image .*broken\{suffix}: .*Repair the file or take it away"
    ):
        load(flat)


def test_file_that_is_no_image(flat):
    (flat / "cat" / "fake.jpg").write_text("not a picture")
    with pytest.raises(ValueError, match=r"Cannot read the image .*fake.jpg: cannot identify image file"):
        load(flat)


def test_several_frames(flat):
    frames = [Image.fromarray(RNG.integers(0, 256, (8, 8), dtype=np.uint8)) for _ in range(3)]
    frames[0].save(flat / "cat" / "stack.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r"stack\.tif has 3 frames; one image per file"):
        load(flat)


def test_float_image(flat):
    Image.fromarray(RNG.random((8, 8), dtype=np.float32)).save(flat / "cat" / "float.tif")
    with pytest.raises(ValueError, match=r"float\.tif has the mode 'F', without a fixed range"):
        load(flat)


def test_nested_folders(flat):
    write_noise(flat / "cat" / "patient1" / "a.png")
    with pytest.raises(ValueError, match=r"cat holds folders \('patient1', 1 in all\)"):
        load(flat)


def test_split_and_class_folders_mixed(parted):
    write_noise(parted / "cat" / "a.png")
    with pytest.raises(ValueError, match="Training, VALID, cat, testing; allowed are class folders alone, or"):
        load(parted)


def test_two_folders_for_one_split(parted):
    write_classes(parted / "train")
    with pytest.raises(ValueError, match="one folder each for train"):
        load(parted)


def test_test_without_train(parted):
    shutil.rmtree(parted / "Training")
    with pytest.raises(ValueError, match="one folder each for train"):
        load(parted)


def test_different_classes_in_train_and_test(parted):
    (parted / "testing" / "dog").rename(parted / "testing" / "Dog")
    with pytest.raises(ValueError, match=r"only in train: \['dog'\], only in test: \['Dog'\]"):
        load(parted)


def test_too_few_images_of_a_class(flat):
    write_noise(flat / "eel" / "only.png")
    with pytest.raises(ValueError, match="too few images in train: 'eel' has 0; every class needs at least 2"):
        load(flat)


def test_copies_across_given_splits(parted):
    shutil.copy(parted / "Training" / "cat" / "0.png", parted / "testing" / "cat" / "copy.png")
    Image.open(parted / "Training" / "cat" / "1.png").save(parted / "testing" / "dog" / "copy.tif")  # other bytes
    shutil.copy(parted / "Training" / "dog" / "2.png", parted / "Training" / "dog" / "again.png")
    with pytest.raises(LeakError) as caught:
        load(parted)
    assert "2 of 8 test images are identical to train images" in str(caught.value)
    assert "testing/cat/copy.png = Training/cat/0.png" in str(caught.value)
    assert "train 1, val 0, test 0" in str(caught.value)
    splits = load(parted, duplicates="drop")
    assert [len(images) for images in splits.splits().values()] == [11, 4, 8]
    assert any(note.startswith("dropped 2 train, 0 val images") for note in splits.notes)
    assert any("kept, as one group each: 1 in train" in note for note in splits.notes)


def write_groups(folder: Path, rows: list[str]) -> None:
    (folder / "groups.csv").write_text("\n".join(rows))


def all_rows(folder: Path) -> list[str]:
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    return ["file,group", *(f"{file},p{i}" for i, file in enumerate(files))]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: [*rows, "cat/99.png,p"],
            r"1 of its files do not exist \(first 'cat/99\.png'\), and 0 images are not",
        ),
        (lambda rows: rows[:-1], r"0 of its files do not exist, and 1 images are not listed \(first 'dog/9\.png'\)"),
    ],
)
def test_groups_csv_with_unknown_or_missing_files(flat, change, message):
    write_groups(flat, change(all_rows(flat)))
    with pytest.raises(ValueError, match=message):
        load(flat)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: ["image,patient", *rows[1:]], "has the columns image,patient; needed are file,group"),
        (lambda rows: [*rows, rows[1]], "1 rows repeat a file or have no group, first 'cat/0.png'"),
        (lambda rows: [*rows[:-1], "dog/9.png,"], "1 rows repeat a file or have no group, first 'dog/9.png'"),
        (lambda rows: [], "Cannot read .*groups.csv as a table with the columns file,group"),
    ],
)
def test_bad_groups_csv(flat, change, message):
    write_groups(flat, change(all_rows(flat)))
    with pytest.raises(ValueError, match=message):
        load(flat)


def test_group_in_two_given_splits(parted):
    rows = [row.replace(",p0", ",same").replace(",p15", ",same") for row in all_rows(parted)]
    write_groups(parted, rows)
    with pytest.raises(
        LeakError, match=r"1 of .* groups are in more than one given split, e\.g\. 'same' in train and "
    ):
        load(parted)
