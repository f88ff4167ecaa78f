"""nbutils.dataset_names: which names hold a path, and what folders are called after them."""

from pathlib import Path

import pytest

from nbutils.dataset_names import FORMS, folder_name, holds_path, seen_from

NO_PATHS = ["phantom:liver", "medmnist:liver", "liver", "liver:", "folder:", "folder", "mixed:liver", ""]


def test_every_form_with_a_path_is_known_to_hold_one():
    for form in (form for forms in FORMS.values() for form in forms):
        assert holds_path(form) == ("PATH" in form), form


@pytest.mark.parametrize("name", NO_PATHS)
def test_a_name_without_a_path_stays_as_it_is_whatever_lies_in_the_folder(tmp_path, name):
    (tmp_path / "liver").mkdir()
    assert seen_from(tmp_path, name) == name


@pytest.mark.parametrize("kind", sorted(set(FORMS) - {"phantom", "medmnist"}))
def test_a_path_starts_at_the_folder_and_may_not_exist_yet(tmp_path, kind):
    assert seen_from(tmp_path, f"{kind}:a/../liver") == f"{kind}:{tmp_path}/liver"
    assert seen_from(tmp_path, f"{kind}:/else/where") == f"{kind}:/else/where"
    assert seen_from(tmp_path, f"{kind}:~/mine") == f"{kind}:{Path.home().resolve() / 'mine'}"


def test_a_medmnist_file_is_told_from_a_published_set_by_its_suffix(tmp_path):
    assert seen_from(tmp_path, "medmnist:own.npz") == f"medmnist:{tmp_path / 'own.npz'}"


def test_folders_are_readable_and_differ_wherever_names_do():
    assert folder_name("phantom:liver") == "phantom-liver"
    assert folder_name("liver") == "liver"
    assert folder_name("folder:/my own/images").startswith("folder-images-")
    names = ["folder:/a/b", "folder:/a-b", "folder:/c/b", "folder:/b", "folder:b", "folder-b", "folder:/a/b c"]
    folders = {folder_name(name) for name in names}
    assert len(folders) == len(names)
    assert not any(set(folder) & set("/: ") for folder in folders)
