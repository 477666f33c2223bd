"""What a control is set to, whatever kind of control it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QAbstractButton, QAbstractSlider, QDoubleSpinBox, QSpinBox
from superqt import QLabeledDoubleSlider, QLabeledSlider

from ._choices import Choice

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

_NUMBERS = (QSpinBox, QDoubleSpinBox, QAbstractSlider, QLabeledSlider, QLabeledDoubleSlider)


def is_setting(control: QWidget) -> bool:
    """Return whether a control is set by a person alone, and does not follow the viewer."""
    if isinstance(control, Choice):
        return control.is_setting
    if isinstance(control, QAbstractButton):
        return control.isCheckable()
    return isinstance(control, _NUMBERS)


def value_of(control: QWidget) -> Any:
    """Return what a control that `is_setting` is set to."""
    if isinstance(control, Choice):
        return control.value
    if isinstance(control, QAbstractButton):
        return control.isChecked()
    return control.value()  # type: ignore[attr-defined]


def set_value(control: QWidget, value: Any) -> None:
    """Set a control; a choice that doesn't offer the value returns to its first entry."""
    if isinstance(control, Choice):
        if control.offers(value):
            control.value = value
        else:
            control.setCurrentIndex(0)
    elif isinstance(control, QAbstractButton):
        control.setChecked(value)
    else:
        control.setValue(value)  # type: ignore[attr-defined]


__all__ = ["is_setting", "set_value", "value_of"]
