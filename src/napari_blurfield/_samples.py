"""Sample data, made when it is opened: a photograph, blurred with a known field."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .layers import LayerData

#: Part of scikit-image's bundled photograph: face, suit and shuttle, all with texture.
_ROWS, _COLUMNS = slice(0, 400), slice(40, 488)
#: Shakes of about 4 px at the shuttle, 16 px at the face and 18 px at the suit.
_SEED = 1


def shaken_portrait() -> list[LayerData]:
    """Return a sharp photograph, the same with a shake that varies across it, and the true field.

    Nothing is downloaded, and each call gives the same data.
    """
    from skimage.data import astronaut

    import blurfield

    from ._spatial import Placement
    from .layers import SOURCE, field_layers

    sharp = astronaut()[_ROWS, _COLUMNS]
    blurry, truth = blurfield.simulate(
        sharp, kind="segments", seed=_SEED, min_extent=3, max_extent=21
    )
    truth = truth.with_metadata(
        **{
            SOURCE: {
                "name": "true",
                "layer": "",
                "frame": [],
                "shape": list(truth.shape),
                **Placement.of_pixels().to_json(),
            }
        }
    )
    hidden = [
        (data, {**attributes, "visible": False}, kind)
        for data, attributes, kind in field_layers(truth, kernels=False)
    ]
    return [
        (sharp, {"name": "sharp photograph", "rgb": True, "visible": False}, "image"),
        (blurry, {"name": "blurry photograph", "rgb": True}, "image"),
        *hidden,
    ]
