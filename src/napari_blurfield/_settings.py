"""What the widgets start with: the settings of the plugin in napari's Preferences.

napari 0.9 keeps what the manifest declares under ``configurations``. Older versions know nothing of
that, and a viewer without the plugin's manifest has no settings either: the built-in values stand
in for them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

_log = logging.getLogger(__name__)

_PLUGIN = "napari-blurfield"
#: Key of the settings in the manifest.
_GROUP = "defaults"
_BYTES_PER_GB = 10**9


@dataclass(frozen=True)
class Defaults:
    """What the widgets start with.

    Parameters
    ----------
    device : str
        Where to compute: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    model : str
        How to estimate, see `blurfield.estimate`.
    method : str
        How to deblur, see `blurfield.deblur`.
    spacing : int, optional
        Pixels between the arrows of a field; None lets field and image decide.
    memory : int, optional
        Bytes that deblurring may use; None takes most of what is free.
    """

    device: str = "auto"
    model: str = "auto"
    method: str = "auto"
    spacing: int | None = None
    memory: int | None = None


def defaults() -> Defaults:
    """Return the settings as they are now, the built-in ones where there are none."""
    stored = _stored()
    if stored is None:
        return Defaults()
    try:
        return Defaults(
            device=str(stored.device),
            model=_model(str(stored.model)),
            method=_method(str(stored.method)),
            spacing=int(stored.spacing) or None,
            memory=round(float(stored.memory) * _BYTES_PER_GB) or None,
        )
    except (AttributeError, TypeError, ValueError) as error:
        _log.warning("the settings cannot be read, the built-in ones are used: %s", error)
        return Defaults()


def _model(name: str) -> str:
    """Return a model, or for one that lacks its weights the best that is installed."""
    from blurfield.estimation import lacks

    return "auto" if name != "auto" and lacks(name) else name


def _method(name: str) -> str:
    """Return a method, or for one that lacks its weights the best that is installed."""
    from blurfield.restoration import METHODS

    return "auto" if name not in METHODS or METHODS[name].lacks else name


def _stored() -> Any:
    """Return what napari keeps for the plugin, None if it keeps nothing."""
    try:
        from napari.settings import get_plugin_settings
    except ImportError:  # before napari 0.9
        return None
    try:
        return getattr(get_plugin_settings(_PLUGIN), _GROUP)
    except (AttributeError, KeyError, AssertionError, OSError, ValueError) as error:
        _log.debug("napari has no settings of this plugin: %s", error)
        return None


__all__ = ["Defaults", "defaults"]
