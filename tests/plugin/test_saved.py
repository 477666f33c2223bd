"""What is saved comes back: place, look, history, and which layers belong together."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile
from in_viewer import assert_same_place, quiet
from napari.layers import Image, Labels, Layer, Vectors
from npe2 import PluginManifest
from pandas.testing import assert_frame_equal

from blurfield import KernelField
from napari_blurfield import deblur_layer, estimate_layers, find_field, mask_layer
from napari_blurfield._commands import open_images, restore_active
from napari_blurfield._groups import members
from napari_blurfield._image_files import axis_letters, read_images, restore, write_layer
from napari_blurfield._provenance import as_python
from napari_blurfield._readers import get_reader, read_fields
from napari_blurfield._vector_files import read_vectors, write_vectors
from napari_blurfield._writers import write_field
from napari_blurfield.layers import FACTS, field_layers, role_of
from napari_blurfield.widgets import DeblurWidget, InspectorWidget, MaskWidget


def created(data):
    return Layer.create(data[0], dict(data[1]), data[2])


def again(layer, folder):
    """Save a layer in our own format and read it."""
    data, attributes, kind = layer.as_layer_data_tuple()
    if kind == "vectors":
        (path,) = write_vectors(str(folder / "saved.blurfield.csv"), data, attributes)
        return created(get_reader(path)(path)[0])
    (path,) = write_layer(str(folder / "saved.blurfield.tif"), data, attributes, kind)
    return created(get_reader(path)(path)[0])


@pytest.fixture
def placed_stack():
    """All seven spatial attributes of a layer with time and depth, none of them trivial."""
    rotate = np.eye(4)
    rotate[2:, 2:] = [[0.8, -0.6], [0.6, 0.8]]
    affine = np.eye(5)
    affine[2:4, 2:] = [[1.1, 0.2, 4.0], [0.0, 0.9, 5.0]]
    return {
        "scale": (30.0, 2.0, 0.5, 0.25),
        "translate": (60.0, -4.0, 10.0, -3.0),
        "rotate": rotate,
        "shear": [0.0, 0.0, 0.0, 0.0, 0.0, 0.1],
        "affine": affine,
        "units": ("s", "um", "um", "um"),
        "axis_labels": ("t", "z", "y", "x"),
    }


class TestPlace:
    """All seven attributes, of images, labels and vectors, with and without time and depth."""

    @pytest.fixture(params=["plane", "stack"])
    def results(self, request, photograph, placed, placed_stack, quick):
        """A source, its frame, and the layers that were made of it."""
        if request.param == "plane":
            source, frame = Image(photograph, name="cells", **placed), ()
        else:
            data = np.stack([photograph] * 15).reshape(5, 3, *photograph.shape)
            source, frame = Image(data, name="cells", **placed_stack), (2, 1)
        made = map(created, estimate_layers(source, frame=frame, progress=quiet))
        layers = {role_of(layer): layer for layer in made}
        layers["deblurred"] = created(
            deblur_layer(source, layers["mask"], frame=frame, progress=quiet)
        )
        return source, frame, layers

    @pytest.mark.parametrize("role", ["deblurred", "mosaic", "mask", "vectors"])
    def test_without_time_and_depth(self, results, role, tmp_path):
        source, _, layers = results
        layer = layers[role]
        plane = Image(np.zeros(source.data.shape[-2:]), **last_two(source))
        assert_same_place(layer, plane)
        assert_same_place(again(layer, tmp_path), plane)
        if role != "deblurred":
            (path,) = write_field(str(tmp_path / "f.blurfield"), [layer.as_layer_data_tuple()])
            reread = {role_of(x): x for x in map(created, read_fields(path))}
            assert_same_place(reread[role], plane)

    @pytest.mark.parametrize("role", ["mixing", "basis"])
    def test_with_time_and_depth(self, results, role, tmp_path):
        source, frame, layers = results
        layer = layers[role]
        assert layer.ndim == source.ndim + 1
        assert layer.axis_labels[1:] == source.axis_labels
        assert layer.units[1:] == source.units
        # The kernels of a frame lie in that frame.
        pixel = (*frame, *np.array(source.data.shape[-2:]) // 2)
        inside = layer.world_to_data((0, *source.data_to_world(pixel)))
        np.testing.assert_allclose(inside[1 : 1 + len(frame)], 0, atol=1e-9)
        assert_same_place(again(layer, tmp_path), layer)
        (path,) = write_field(str(tmp_path / "f.blurfield"), [layer.as_layer_data_tuple()])
        reread = {role_of(x): x for x in map(created, read_fields(path))}
        assert_same_place(reread[role], layer)

    @pytest.mark.parametrize("kind", ["image", "labels", "vectors"])
    def test_stacks(self, placed_stack, tmp_path, kind):
        shape = (7, 2, 4) if kind == "vectors" else (2, 3, 8, 9)
        data = np.arange(np.prod(shape)).reshape(shape).astype(np.uint16)
        layer = Layer.create(data, {**placed_stack, "name": "a"}, kind)
        reread = again(layer, tmp_path)
        assert_same_place(reread, layer)
        np.testing.assert_array_equal(reread.data, data)


def last_two(layer):
    """Return the attributes of the image's two axes."""
    return {
        "scale": layer.scale[-2:],
        "translate": layer.translate[-2:],
        "rotate": np.asarray(layer.rotate)[-2:, -2:],
        "shear": np.asarray(layer.shear)[-1:],
        "affine": layer.affine.affine_matrix[-3:, -3:],
        "units": layer.units[-2:],
        "axis_labels": layer.axis_labels[-2:],
    }


def test_a_deblurred_image_comes_back_whole(photograph, placed, quick, tmp_path):
    source = Image(
        photograph, name="cells", contrast_limits=(30, 180), colormap="magma", gamma=0.8,
        blending="additive", opacity=0.5, **placed,
    )  # fmt: skip
    field = estimate_layers(source, progress=quiet)[-1][1]["metadata"]["blurfield_field"]
    layer = created(deblur_layer(source, field, progress=quiet))
    reread = again(layer, tmp_path)
    assert reread.data.dtype == layer.data.dtype
    np.testing.assert_array_equal(reread.data, layer.data)
    for name in ("name", "contrast_limits", "gamma", "blending", "opacity", "rgb"):
        assert getattr(reread, name) == getattr(layer, name), name
    assert reread.colormap.name == "magma"
    assert reread.metadata[FACTS] == layer.metadata[FACTS]
    assert as_python(reread) == as_python(layer)


def test_colours_come_back(tmp_path):
    data = np.random.default_rng(0).integers(0, 255, (7, 9, 4), np.uint8)
    reread = again(Image(data, rgb=True, name="rgba"), tmp_path)
    assert reread.rgb
    np.testing.assert_array_equal(reread.data, data)
    custom = again(Image(data[..., 0], colormap=["red", "blue"]), tmp_path)
    np.testing.assert_allclose(custom.colormap.colors, [[1, 0, 0, 1], [0, 0, 1, 1]])


def test_a_painted_mask_comes_back_as_labels(field, tmp_path):
    mask = created(mask_layer(field, threshold=0.5))
    mask.data[3:5, 3:9] = 7
    reread = again(mask, tmp_path)
    assert isinstance(reread, Labels)
    np.testing.assert_array_equal(reread.data, mask.data)
    assert dict(reread.colormap.color_dict).keys() == dict(mask.colormap.color_dict).keys()
    assert_frame_equal(reread.features, mask.features)
    reread.data[0, 0] = 3  # can still be painted
    assert isinstance(again(Labels(np.zeros((5, 6), int)), tmp_path), Labels)


@pytest.mark.parametrize("cls", [MaskWidget, DeblurWidget, InspectorWidget])
def test_pictures_without_their_field_open_beside_a_widget(cls, viewer, field, qtbot, tmp_path):
    widget = cls(viewer)
    qtbot.addWidget(widget)
    for data in field_layers(field):
        viewer.add_layer(created(data))
    reopened = viewer.add_layer(again(created(mask_layer(field)), tmp_path))
    viewer.layers.selection.active = reopened
    assert find_field(reopened) is None
    assert widget.field.value is field


def test_multiscale_and_lazy_data_are_saved_in_full(photograph, tmp_path):
    dask = pytest.importorskip("dask.array")
    pyramid = Image([photograph, photograph[::2, ::2]], multiscale=True)
    np.testing.assert_array_equal(again(pyramid, tmp_path).data, photograph)
    stack = np.stack([photograph] * 6)
    lazy = Image(dask.from_array(stack, chunks=(1, -1, -1)), contrast_limits=(0, 255))
    np.testing.assert_array_equal(again(lazy, tmp_path).data, stack)


def test_letters_of_axes():
    assert axis_letters(("t", "z", "y", "x")) == "TZYX"
    assert axis_letters(("kernel", "Time", "c", "y", "x")) == "ZTCYX"
    assert axis_letters(("axis -4", "z", "y", "x")) == "TZYX"
    assert axis_letters(("", "t", "y", "x")) == "ZTYX"
    assert axis_letters(("y", "x")) == "YX"


class TestOpenedByNapari:
    """Its own reader leaves everything but the pixels in the file."""

    @pytest.fixture
    def saved(self, photograph, placed, tmp_path):
        layer = Image(photograph, name="cells", colormap="magma", metadata={"note": 1}, **placed)
        data, attributes, kind = layer.as_layer_data_tuple()
        (path,) = write_layer(str(tmp_path / "cells"), data, attributes, kind)
        assert path.endswith("cells.blurfield.tif")
        return layer, path

    def test_restore(self, saved, viewer, notes):
        from napari.layers._source import layer_source

        layer, path = saved
        with layer_source(path=path):
            plain = viewer.add_image(tifffile.imread(path))
        restore_active(viewer)
        assert notes == []
        assert_same_place(plain, layer)
        assert (plain.name, plain.colormap.name) == ("cells", "magma")
        assert plain.metadata == {"note": 1}

    def test_restoring_other_layers_is_explained(self, saved, viewer, tmp_path, notes):
        from napari.layers._source import layer_source

        viewer.add_image(np.zeros((5, 5)), name="mine")
        restore_active(viewer)
        with layer_source(path=saved[1]):
            other = Image(np.zeros((5, 5)), name="other")
        with pytest.raises(ValueError, match="holds image of shape"):
            restore(other)
        assert "was not opened from a TIFF file" in notes[0].message

    def test_open_from_the_menu(self, saved, viewer, monkeypatch):
        from qtpy.QtWidgets import QFileDialog

        layer, path = saved
        monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: ([path], ""))
        open_images(viewer)
        assert_same_place(viewer.layers["cells"], layer)
        monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: ([], ""))
        open_images(viewer)
        assert len(viewer.layers) == 1

    def test_our_reader_is_asked_for_by_name(self, saved, viewer, npe2pm):
        layer, path = saved
        with npe2pm.tmp_plugin(manifest=PluginManifest.from_distribution("napari-blurfield")):
            (reread,) = viewer.open(path, plugin="napari-blurfield")
            assert_same_place(reread, layer)
            assert str(reread.source.path) == path
            (again,) = viewer.layers.save(path.replace("cells", "again"))
        assert read_images(again)[0][1]["name"] == "cells"


def test_files_of_others_are_refused(tmp_path):
    path = tmp_path / "plain.blurfield.tif"
    tifffile.imwrite(path, np.zeros((4, 5)))
    with pytest.raises(ValueError, match=r"plain\.blurfield\.tif is not an image that was saved"):
        read_images([str(path)])
    assert get_reader("photo.tif") is None
    assert get_reader("PHOTO.BLURFIELD.TIFF") is read_images


def test_vectors_as_a_table(quick, photograph, tmp_path):
    layer = created(estimate_layers(Image(photograph, name="a"), progress=quiet)[-1])
    data, attributes, _ = layer.as_layer_data_tuple()
    (path,) = write_vectors(str(tmp_path / "vectors"), data, attributes)
    with open(path, newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == len(layer.data)
    assert list(rows[0])[:7] == [
        "index", "axis-0", "axis-1", "vector-0", "vector-1", "length", "angle"
    ]  # fmt: skip
    table = np.array([[float(row[name]) for name in list(row)[1:5]] for row in rows])
    np.testing.assert_allclose(table.reshape(-1, 2, 2), layer.data, rtol=1e-6)
    np.testing.assert_allclose(
        [float(row["length"]) for row in rows], layer.features["length"], rtol=1e-6
    )


def test_vectors_come_back_whole(quick, photograph, placed, tmp_path):
    source = Image(photograph, name="a", **placed)
    layer = created(estimate_layers(source, progress=quiet)[-1])
    reread = again(layer, tmp_path)
    np.testing.assert_array_equal(reread.data, layer.data)
    assert list(reread.features) == list(layer.features)
    np.testing.assert_allclose(reread.features["angle"], layer.features["angle"], rtol=1e-6)
    np.testing.assert_allclose(reread.edge_color, layer.edge_color, atol=1e-6)
    for name in ("name", "opacity", "edge_width", "vector_style", "edge_contrast_limits"):
        assert getattr(reread, name) == getattr(layer, name), name
    assert reread.metadata[FACTS] == layer.metadata[FACTS]


def test_other_tables_are_refused(tmp_path):
    path = tmp_path / "a.blurfield.csv"
    path.write_text("index,axis-0\n0,1\n")
    with pytest.raises(ValueError, match="not a table that was saved with"):
        read_vectors(str(path))
    path.write_text("# blurfield: {}\nindex\n")
    with pytest.raises(ValueError, match="is damaged"):
        read_vectors([str(path)])


def test_vectors_without_features(tmp_path):
    data, attributes, _ = Vectors(np.zeros((3, 2, 3))).as_layer_data_tuple()
    (path,) = write_vectors(str(tmp_path / "v.csv"), data, attributes)
    assert Path(path).read_text().splitlines()[0].count(",") == 6


def test_members_of_a_group_find_each_other(viewer, photograph, quick, tmp_path):
    source = viewer.add_image(photograph, name="cells")
    layers = [created(x) for x in estimate_layers(source, progress=quiet)]
    layers.append(created(deblur_layer(source, layers[0], progress=quiet)))
    other = [created(x) for x in field_layers(KernelField.uniform(np.ones((1, 1)), (48, 64)))]
    field_path = write_field(str(tmp_path / "f"), [layers[-2].as_layer_data_tuple()])[0]
    sharp = again(layers[-1], tmp_path)
    reread = [created(x) for x in read_fields(field_path)]
    for number, layer in enumerate([*layers, sharp, *reread, *other]):
        layer.name = f"renamed {number}"
        viewer.add_layer(layer)
    group = [*layers, sharp, *reread]
    assert members(sharp, viewer.layers) == group
    assert members(reread[0], viewer.layers) == group
    assert members(source, viewer.layers) == []
    assert find_field(sharp) is None
