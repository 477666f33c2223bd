"""The scale of the vectors, and the names of kernels."""

from __future__ import annotations

import numpy as np
import pytest
from in_viewer import add_field, by_role

from blurfield import KernelField
from napari_blurfield._kernel_names import kernel_names
from napari_blurfield.layers import FACTS
from napari_blurfield.widgets._legend import Legend


@pytest.fixture
def legend(viewer, qtbot):
    widget = Legend(viewer)
    qtbot.addWidget(widget)
    return widget


def texts(labels):
    return [label.text() for label in labels if label.isVisibleTo(label.parent())]


def test_nothing_is_explained_where_there_is_nothing(legend, viewer, photograph):
    viewer.add_image(photograph)
    assert not legend.extent.isVisibleTo(legend)
    assert not legend.kernel.isVisibleTo(legend)


def test_extents_in_pixels(legend, viewer, field):
    add_field(viewer, field)
    assert legend.extent.isVisibleTo(legend)
    assert texts(legend.extent.pixels) == ["1.0", "5.0", "9.0 px"]
    assert texts(legend.extent.physical) == []
    by_role(viewer)["vectors"].edge_contrast_limits = (0, 100)
    by_role(viewer)["vectors"].visible = False
    by_role(viewer)["vectors"].visible = True
    assert texts(legend.extent.pixels) == ["0", "50", "100 px"]


def test_extents_in_the_unit_of_the_image(legend, viewer, field):
    add_field(viewer, field)
    vectors = by_role(viewer)["vectors"]
    vectors.units = ("um", "um")
    vectors.scale = (0.5, 0.5)
    assert texts(legend.extent.physical) == ["0.5", "2.5", "4.5 µm"]


def test_the_bar_has_the_colours_of_the_vectors(legend, viewer, field):
    add_field(viewer, field)
    colours = by_role(viewer)["vectors"].edge_colormap.map([0.0, 1.0])
    np.testing.assert_allclose(legend.extent._bar.colors[[0, -1]], colours)
    image = legend.extent._bar.grab().toImage()
    left = image.pixelColor(0, 5)
    assert abs(left.redF() - colours[0][0]) < 0.1
    assert abs(left.blueF() - colours[0][2]) < 0.1


def test_hidden_vectors_are_not_explained(legend, viewer, field):
    add_field(viewer, field)
    by_role(viewer)["vectors"].visible = False
    assert not legend.extent.isVisibleTo(legend)
    viewer.layers.clear()
    assert not legend.extent.isVisibleTo(legend)


def test_the_kernel_in_view_has_a_name(legend, viewer, photograph, field):
    viewer.add_image(photograph)
    add_field(viewer, field)
    layers = by_role(viewer)
    assert not legend.kernel.isVisibleTo(legend)
    layers["mixing"].visible = True
    viewer.dims.set_current_step(0, 0)
    assert legend.kernel.text() == "Kernel 1 of 2: sharp, 50% of the image"
    viewer.dims.set_current_step(0, 1)
    assert legend.kernel.text() == "Kernel 2 of 2: 9 px at 0°, 50% of the image"
    layers["mixing"].visible = False
    assert not legend.kernel.isVisibleTo(legend)


def test_names_of_kernels(field):
    disc = np.ones((1, 9, 9), np.float32) / 81
    slanted = np.eye(9, dtype=np.float32)[None] / 9
    basis = np.concatenate([field.basis.numpy(), disc, slanted])
    mixing = np.full((4, 2, 2), 0.25, np.float32)
    names = kernel_names(KernelField(basis, mixing, (48, 64)))
    assert names[0] == "Kernel 1 of 4: sharp, 25% of the image"
    assert names[2] == "Kernel 3 of 4: 9 px all round, 25% of the image"
    assert names[3].startswith("Kernel 4 of 4: 13 px at 135°")


def test_layers_tell_the_names(viewer, field):
    add_field(viewer, field)
    for role in ("mixing", "basis"):
        assert by_role(viewer)[role].metadata[FACTS]["names"] == kernel_names(field)


def test_numbers_have_a_colour_bar(viewer, photograph, quick, estimate, finish):
    image = viewer.add_image(photograph, name="cells")
    if not hasattr(image, "colorbar"):
        pytest.skip("napari has colour bars since 0.7")
    estimate.run()
    finish(estimate)
    layers = by_role(viewer)
    assert layers["mixing"].colorbar.visible
    assert not layers["basis"].colorbar.visible
    assert not image.colorbar.visible
