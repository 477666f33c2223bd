"""A small time-lapse, and what is made of it."""

from __future__ import annotations

import numpy as np

#: Roles of the layers that show the fields of a movie.
PICTURES = ["mixing", "basis", "mosaic", "mask", "vectors"]


def movie(frames=4, extra=(), dtype=np.uint16):
    """Frames of noise around 100 times their number."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 50, (frames, *extra, 48, 64))
    return (noise + 100 * np.arange(frames).reshape(-1, *(1,) * (noise.ndim - 1))).astype(dtype)


def add_movie(viewer, frames=4, **options):
    return viewer.add_image(movie(frames), name="movie", axis_labels=("t", "y", "x"), **options)


def length_of(field):
    return int((field.basis > 0).sum())


def take_all_frames(folder, *widgets):
    """Let widgets work on all frames, each into a folder that is named like its button."""
    for widget in widgets:
        widget.frames.which.value = "all"
        widget.folder.path.setText(str(folder / widget.run_button.text()))
