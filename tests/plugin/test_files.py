"""The reader, the writer and the sample data."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image, Layer
from napari_builtins.io import napari_write_image, napari_write_labels

from blurfield import KernelField
from napari_blurfield import estimate_layers
from napari_blurfield._readers import get_reader, read_fields
from napari_blurfield._samples import shaken_portrait
from napari_blurfield._writers import write_field, write_one
from napari_blurfield.layers import field_id, find_field, role_of


def quiet(done, total, message):
    pass


def make(layers):
    made = [Layer.create(data, dict(attributes), kind) for data, attributes, kind in layers]
    return {role_of(layer): layer for layer in made}


@pytest.mark.parametrize("role", ["vectors", "mask", "mosaic", "mixing", "basis"])
def test_saved_through_any_layer_and_read_again(tmp_path, photograph, placed, quick, role):
    before = make(estimate_layers(Image(photograph, name="cells", **placed), progress=quiet))
    path = str(tmp_path / "cells.blurfield")
    data, attributes, _ = before[role].as_layer_data_tuple()
    assert write_one(path, data, attributes) == [path]
    after = make(get_reader(path)(path))
    assert set(after) == set(before)
    for name, layer in before.items():
        again = after[name]
        assert again.name == layer.name
        np.testing.assert_array_equal(again.data, layer.data)
        point = (3.0,) * layer.ndim
        np.testing.assert_allclose(again.data_to_world(point), layer.data_to_world(point))
        assert again.units == layer.units
        assert again.axis_labels == layer.axis_labels
        np.testing.assert_allclose(again.shear, layer.shear, atol=1e-12)
    assert field_id(find_field(after["mask"])) == field_id(find_field(before["mask"]))


def test_a_frame_of_a_stack_comes_back_to_its_place(tmp_path, quick):
    source = Image(np.zeros((5, 48, 64)), scale=(2, 1, 1), translate=(7, 0, 0), name="movie")
    before = make(estimate_layers(source, frame=[3], progress=quiet))
    path = str(tmp_path / "movie.blurfield")
    data, attributes, _ = before["vectors"].as_layer_data_tuple()
    write_one(path, data, attributes)
    mixing = make(read_fields(path))["mixing"]
    assert mixing.data_to_world((0, 0, 0, 0))[1] == 7 + 2 * 3


def test_a_field_from_elsewhere_is_called_like_its_file(tmp_path, field):
    path = field.save(tmp_path / "levin.blurfield")
    assert make(read_fields([str(path)]))["mask"].name == "levin blur mask"


def test_names_of_the_core_are_used(tmp_path, field):
    for source, name in (({"shape": [48, 64]}, "f"), ({"name": "cat.png"}, "cat.png")):
        path = field.with_metadata(source=source).save(tmp_path / "f.blurfield")
        assert make(read_fields(str(path)))["mask"].name == f"{name} blur mask"


def test_reader_refuses_other_files():
    assert get_reader("photo.npy") is None
    assert get_reader(["a.blurfield", "b.tif"]) is None
    assert get_reader("PHOTO.BLURFIELD") is read_fields


def test_damaged_files_are_errors(tmp_path):
    path = tmp_path / "broken.blurfield"
    path.write_bytes(b"not a field")
    with pytest.raises(ValueError, match=r"broken\.blurfield"):
        read_fields(str(path))
    with pytest.raises(FileNotFoundError):
        read_fields(str(tmp_path / "missing.blurfield"))


def test_writer_adds_the_extension(tmp_path, photograph, quick):
    layers = [layer.as_layer_data_tuple() for layer in make(
        estimate_layers(Image(photograph), progress=quiet)).values()]  # fmt: skip
    layers.append(Image(photograph).as_layer_data_tuple())
    assert write_field(str(tmp_path / "all"), layers) == [str(tmp_path / "all.blurfield")]
    assert KernelField.load(tmp_path / "all.blurfield").num_kernels == 2


def test_writer_needs_exactly_one_field(tmp_path, photograph, quick):
    plain = Image(photograph, name="plain").as_layer_data_tuple()
    path = tmp_path / "x.blurfield"
    with pytest.raises(TypeError, match="no blur field in 'plain'"):
        write_field(str(path), [plain])
    first, second = (
        make(estimate_layers(Image(photograph), progress=quiet))["mask"].as_layer_data_tuple()
        for _ in range(2)
    )
    with pytest.raises(TypeError, match="2 blur fields"):
        write_field(str(path), [first, second])
    assert not path.exists()


def test_of_a_stack_the_frame_shown_is_saved(tmp_path, viewer, quick, notes, monkeypatch):
    axes = {"axis_labels": ("t", "y", "x"), "scale": (2, 1, 1)}
    movie = viewer.add_image(np.zeros((5, 48, 64)), name="movie", **axes)
    made = make(estimate_layers(movie, frames=[1, 3], folder=tmp_path / "f", progress=quiet))
    layers = [made[role].as_layer_data_tuple() for role in ("vectors", "mask")]
    path = str(tmp_path / "x.blurfield")
    with pytest.raises(TypeError, match=rf"no viewer shows which frame .*{tmp_path / 'f'}"):
        write_field(path, layers)
    monkeypatch.setattr("napari.current_viewer", lambda: viewer)
    viewer.dims.set_point(0, 2 * 3)
    assert write_field(path, layers) == [path]
    assert "Saved the blur field of movie [t 3]; those of all" in notes[-1].message
    assert make(read_fields(path))["mask"].name == "movie [t 3] blur mask"
    viewer.dims.set_point(0, 2 * 2)
    with pytest.raises(TypeError, match="'movie' that is shown has no blur field; go to another"):
        write_field(path, layers)


def test_builtins_still_save_our_layers(tmp_path, photograph, quick):
    layers = make(estimate_layers(Image(photograph), progress=quiet))
    for role, write in {"mask": napari_write_labels, "mixing": napari_write_image}.items():
        data, attributes, _ = layers[role].as_layer_data_tuple()
        assert write(str(tmp_path / f"{role}.tif"), data, attributes)


def test_sample_is_seeded_and_consistent():
    layers = shaken_portrait()
    names = {attributes["name"]: data for data, attributes, _ in layers}
    sharp, blurry = names["sharp photograph"], names["blurry photograph"]
    assert sharp.shape == blurry.shape
    assert sharp.dtype == blurry.dtype == np.uint8
    assert (
        np.abs(np.diff(sharp.astype(float), axis=1)).mean()
        > np.abs(np.diff(blurry.astype(float), axis=1)).mean()
    )
    again = {attributes["name"]: data for data, attributes, _ in shaken_portrait()}
    np.testing.assert_array_equal(again["blurry photograph"], blurry)
    truth = find_field(make(layers)["vectors"])
    assert truth.shape == sharp.shape[:2]
    assert "true blur vectors" in names
