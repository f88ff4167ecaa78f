"""Published weights: where they are looked for, what is said when they are missing, and that nothing is executed."""

import hashlib
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nbutils import weights
from nbutils.artefacts import write_manifest

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


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A shipped folder of weights."""
    monkeypatch.setattr(weights, "PRIORS", tmp_path / "priors")
    folder = tmp_path / "priors" / "backbone"
    folder.mkdir(parents=True)
    save_file({"a": torch.arange(3.0)}, folder / "weights.safetensors")
    write_manifest(folder, "prior", {})
    return folder


def test_shipped_weights_come_before_those_of_the_folder(folder, shipped):
    (folder / "backbone").mkdir()
    save_file({"a": torch.zeros(3)}, folder / "backbone" / "weights.safetensors")
    assert weights.load_state_dict("prior-backbone")["a"].tolist() == [0, 1, 2]
    (shipped / "weights.safetensors").unlink()
    assert weights.load_state_dict("prior-backbone")["a"].tolist() == [0, 0, 0]


def test_shipped_weights_that_disagree_with_their_manifest_are_refused(shipped):
    save_file({"a": torch.ones(3)}, shipped / "weights.safetensors")
    with pytest.raises(ValueError, match=r"is damaged or another file: .*checksum.*train-prior backbone"):
        weights.locate("prior-backbone")


def test_missing_priors_say_how_they_are_trained(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "PRIORS", tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"none: train them .*: python -m nbutils train-prior text-to-image"):
        weights.locate("prior-text-to-image")


def test_a_published_file_with_a_wrong_hash_is_refused(folder, monkeypatch):
    torch.save({"a": torch.zeros(1)}, folder / FILE)
    monkeypatch.setitem(weights.PRETRAINED, NAME, replace(weights.PRETRAINED[NAME], sha256="0123456789abcdef"))
    with pytest.raises(ValueError, match=r"that of the published file with 0123456789ab; get it again from openai"):
        weights.load_state_dict(NAME)


def test_the_checksum_of_a_folder_covers_names_and_contents(folder, monkeypatch):
    monkeypatch.setitem(weights.PRETRAINED, "pipeline", weights.Pretrained("pipeline", "nowhere"))
    (folder / "pipeline" / "unet").mkdir(parents=True)
    seen = set()
    for name, content in (("a", "1"), ("a", "22"), ("b", "1")):
        (folder / "pipeline" / "unet" / name).write_text(content)
        seen.add(weights.checksum("pipeline"))
    assert len(seen) == 3


@pytest.mark.parametrize("kept", [0, 3, 10, 500, 3000])
@pytest.mark.parametrize("kind", ["safetensors", "zip.pt", "old.pt"])
def test_a_file_that_is_cut_off_is_named(folder, monkeypatch, kind, kept):
    path = folder / f"cut.{kind}"
    monkeypatch.setitem(weights.PRETRAINED, "cut", weights.Pretrained(path.name, "nowhere"))
    if kind == "safetensors":
        save_file({"a": torch.zeros(999)}, path)
    else:
        torch.save({"a": torch.zeros(999)}, path, _use_new_zipfile_serialization=kind == "zip.pt")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=rf"cut\.{kind} cannot be read as weights"):
        weights.load_state_dict("cut")


def test_without_a_network_a_hub_id_says_what_to_do(monkeypatch):
    def offline(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(weights, "snapshot_download", offline)
    with pytest.raises(FileNotFoundError, match=r"did not come from the hub \(no route\); fetch it where there is"):
        weights.locate("hub:someone/net@" + "0123456789" * 4)


def test_hub_ids_are_pinned_by_a_commit(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(weights, "hf_hub_download", lambda *a, **k: asked.append((a, k)) or tmp_path / "file")
    monkeypatch.setattr(weights, "snapshot_download", lambda *a, **k: asked.append((a, k)) or tmp_path)
    commit = "0123456789" * 4
    assert weights.locate(f"hub:someone/net@{commit}:unet/model.safetensors") == tmp_path / "file"
    assert weights.locate(f"hub:someone/net@{commit}") == tmp_path
    assert asked[0] == (("someone/net", "unet/model.safetensors"), {"revision": commit})
    assert asked[1][1]["revision"] == commit
    assert all(not pattern.endswith((".bin", ".py", ".pt")) for pattern in asked[1][1]["allow_patterns"])
    for unpinned in ("hub:someone/net", "hub:someone/net@main", "hub:net@" + commit):
        with pytest.raises(ValueError, match="so that what comes is pinned"):
            weights.locate(unpinned)


def test_the_load_report_names_what_did_not_fit():
    network = nn.ModuleDict({"body": nn.Linear(2, 2), "head": nn.Linear(2, 3)})
    state = {"body.weight": torch.full((2, 2), 7.0), "head.weight": torch.zeros(9, 2), "spare": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"do not fit the network: 2 missing: body.bias, head.bias; 1 extra: spare"):
        weights.load_matching(network, state)
    report = weights.load_matching(network, state, may_miss=("head.", "spare", "body.bias"))
    assert report == weights.LoadReport(("body.bias", "head.bias"), ("spare",), ("head.weight",))
    assert str(report).endswith("1 of another shape: head.weight")
    assert network["body"].weight.tolist() == [[7, 7], [7, 7]]
    assert str(weights.load_matching(network, network.state_dict())) == "complete"
