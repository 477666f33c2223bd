"""Commands on the active layer."""

from __future__ import annotations

import numpy as np
import pytest

from napari_blurfield import _commands, _jobs, find_field
from napari_blurfield.layers import role_of


@pytest.fixture
def done(qtbot):
    """Wait until no job runs."""
    return lambda: qtbot.waitUntil(lambda: not _jobs._running, timeout=10_000)


def roles(viewer):
    return [role_of(layer) for layer in viewer.layers]


def test_estimate_deblur_and_mask_the_active_layer(viewer, photograph, quick, done):
    image = viewer.add_image(photograph, name="cells")
    _commands.estimate_active(viewer)
    done()
    field = find_field(viewer.layers["cells blur vectors"])
    assert roles(viewer) == [None, "mixing", "basis", "mosaic", "mask", "vectors"]
    assert viewer.layers.selection.active is image
    _commands.deblur_active(viewer)
    done()
    assert quick["deblur"][1] is field
    assert "cells deblurred" in viewer.layers
    viewer.layers.selection.active = viewer.layers["cells blur vectors"]
    _commands.mask_active(viewer)
    assert "cells blur mask [1]" in viewer.layers


def test_deblurring_estimates_if_there_is_no_field_of_this_frame(viewer, quick, done):
    viewer.add_image(np.zeros((6, 48, 64)), name="movie")
    viewer.dims.set_current_step(0, 1)
    _commands.deblur_active(viewer)
    done()
    first = quick["deblur"][1]
    assert find_field(viewer.layers["movie [frame 1] deblurred"]) is first
    viewer.layers.selection.active = viewer.layers["movie"]
    viewer.dims.set_current_step(1, 2)
    _commands.deblur_active(viewer)
    done()
    assert quick["deblur"][1] is not first
    assert "movie [frame 2] deblurred" in viewer.layers


def test_show_the_layers_again(viewer, photograph, quick, done):
    viewer.add_image(photograph, name="cells")
    _commands.estimate_active(viewer)
    done()
    for role in ("mosaic", "vectors"):
        viewer.layers.remove(next(layer for layer in viewer.layers if role_of(layer) == role))
    viewer.layers.selection.active = viewer.layers["cells blur mask"]
    _commands.show_field(viewer)
    assert {"mosaic", "vectors"} <= set(roles(viewer))


@pytest.mark.parametrize("name", ["estimate_active", "deblur_active", "mask_active", "show_field"])
def test_what_is_missing_is_explained(viewer, notes, name):
    command = getattr(_commands, name)
    assert command(viewer) is None
    viewer.add_points(np.zeros((1, 3)), name="dots")
    assert command(viewer) is None
    first, second = (note.message for note in notes)
    assert first == "Select one layer first"
    assert "'dots'" in second
    assert len(viewer.layers) == 1
