"""nbutils.artefacts: keys, checks, interrupted builds, shipping."""

import pytest

from nbutils import artefacts
from nbutils.artefacts import cache_folder, cached, entry_name, find, ship

KEY = {"name": "x", "steps": 3}


def write(text):
    return lambda folder: (folder / "value.txt").write_text(text)


def test_an_entry_is_built_once_and_then_found():
    assert cached("test", KEY, write("first")).source == "built"
    again = cached("test", KEY, write("second"))
    assert (again.source, (again.path / "value.txt").read_text()) == ("cache", "first")


def test_rebuilding_replaces_the_entry():
    cached("test", KEY, write("first"))
    assert (cached("test", KEY, write("second"), rebuild=True).path / "value.txt").read_text() == "second"


def test_another_key_is_another_entry():
    assert entry_name("test", KEY) == entry_name("test", {"steps": 3, "name": "x"})
    assert entry_name("test", KEY) != entry_name("test", {**KEY, "steps": 4})


@pytest.mark.parametrize("damage", ["change", "remove", "manifest"])
def test_a_damaged_entry_is_noticed_and_rebuilt(damage):
    path = cached("test", KEY, write("first")).path
    if damage == "change":
        (path / "value.txt").write_text("fxrst")
    else:
        (path / ("value.txt" if damage == "remove" else "manifest.json")).unlink()
    with pytest.warns(UserWarning, match="Damaged cache entry"):
        rebuilt = cached("test", KEY, write("second"))
    assert (rebuilt.source, (rebuilt.path / "value.txt").read_text()) == ("built", "second")


def test_an_interrupted_build_is_not_an_entry_and_can_be_resumed():
    def killed(folder):
        (folder / "half.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached("test", KEY, killed)
    assert find("test", KEY) is None

    def resumed(folder):
        (folder / "value.txt").write_text((folder / "half.txt").read_text() + " and whole")

    assert (cached("test", KEY, resumed).path / "value.txt").read_text() == "half and whole"


def test_a_shipped_entry_is_found_before_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(artefacts, "SHIPPED", tmp_path / "shipped")
    with pytest.raises(FileNotFoundError, match="build it first"):
        ship("test", KEY)
    cached("test", KEY, write("shipped"))
    ship("test", KEY)
    for entry in cache_folder().iterdir():
        if entry.is_dir():
            (entry / "value.txt").write_text("damaged")
    assert find("test", KEY).source == "shipped"
