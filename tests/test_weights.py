"""Published weights: where they are looked for, what is said when they are missing, and that nothing is executed."""

import hashlib

import pytest
import torch

from nbutils import weights

NAME, FILE = "adm-imagenet-256", "256x256_diffusion.pt"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of published weights, empty."""
    monkeypatch.setenv("NBUTILS_WEIGHTS", str(tmp_path))
    return tmp_path


def test_folder_is_in_the_repository_unless_named(monkeypatch):
    monkeypatch.delenv("NBUTILS_WEIGHTS", raising=False)
    assert weights.paper_folder().parts[-3:] == ("data", "weights", "paper")


def test_missing_file_says_what_to_fetch_and_where_to_put_it(folder):
    with pytest.raises(FileNotFoundError, match=rf"not in {folder}: get {FILE} from openai/guided-diffusion"):
        weights.load_state_dict(NAME)


def test_unknown_name():
    with pytest.raises(ValueError, match=r"Unknown pre-trained weights 'adm-imagenet-512'.*Did you mean"):
        weights.locate("adm-imagenet-512")


def test_state_dict_and_checksum(folder):
    torch.save({"a": torch.arange(3)}, folder / FILE)
    assert weights.load_state_dict(NAME)["a"].tolist() == [0, 1, 2]
    assert weights.checksum(NAME) == hashlib.sha256((folder / FILE).read_bytes()).hexdigest()


def test_checksum_notices_another_file(folder):
    torch.save({"a": torch.zeros(1)}, folder / FILE)
    first = weights.checksum(NAME)
    torch.save({"a": torch.zeros(9)}, folder / FILE)
    assert weights.checksum(NAME) != first


class Harmful:
    """Pickles to a call, which a safe reader refuses to make."""

    def __reduce__(self):
        return (print, ("executed",))


def test_code_in_a_file_is_not_executed(folder, capsys):
    torch.save({"a": Harmful()}, folder / FILE)
    with pytest.raises(ValueError, match="nothing in it was executed"):
        weights.load_state_dict(NAME)
    assert capsys.readouterr().out == ""


def test_anything_but_named_tensors_is_refused(folder):
    torch.save({"a": torch.zeros(1), "epoch": 3}, folder / FILE)
    with pytest.raises(ValueError, match="must hold a state dict"):
        weights.load_state_dict(NAME)
