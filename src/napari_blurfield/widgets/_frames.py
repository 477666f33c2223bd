"""Controls for time-lapses: which frames, and where their results go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QPushButton, QVBoxLayout, QWidget

from napari_blurfield._frame_ranges import read_ranges

from ._choices import Choice
from ._tool import describe

if TYPE_CHECKING:
    from PyQt6.QtCore import pyqtSignal as Signal

    from napari_blurfield._stack import Stack
else:
    from qtpy.QtCore import Signal

#: Ways to say which frames.
CURRENT, ALL, SOME = "current", "all", "some"


class FramesChoice(QWidget):
    """The frame shown, all frames, or some of them."""

    #: Another way to say which frames was chosen.
    changed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.which = Choice(
            [("the one shown", CURRENT), ("all frames", ALL), ("some frames", SOME)]
        )
        tooltip = "Which frames to work on: the one that the viewer shows, all, or some of them."
        describe(self.which, "Which frames", tooltip)
        self.ranges = QLineEdit()
        self.ranges.setPlaceholderText("0-9, 12")
        describe(
            self.ranges,
            "Frame numbers",
            "Numbers and ranges such as 0-9, 12, counted from 0 as the viewer does. With several "
            "axes of frames, they count along the first one, and all frames of the others are "
            "taken.",
        )
        column = QVBoxLayout()
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.which)
        column.addWidget(self.ranges)
        self.setLayout(column)
        self.setFocusProxy(self.which)
        self.which.changed.connect(self._on_changed)
        self._on_changed(self.which.value)

    @property
    def several(self) -> bool:
        """Whether more than the frame shown is meant."""
        return bool(self.which.value != CURRENT)

    def numbers(self, stack: Stack) -> tuple[int, ...]:
        """Return the chosen frames of a stack.

        Raises
        ------
        ValueError
            If the text is not a list of frames that are there.
        """
        if self.which.value == ALL:
            return tuple(range(len(stack)))
        return stack.numbers_at(read_ranges(self.ranges.text(), stack.sizes[0]))

    def _on_changed(self, which: str) -> None:
        self.ranges.setVisible(which == SOME)
        self.changed.emit(which)


class FolderChoice(QWidget):
    """Where results go: a folder, or nothing for one that is found by itself."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        tooltip = (
            "The folder for the results of frames: a new or empty one, or one with results of the "
            "same frames and settings, which are kept. Without one, a folder beside the image's "
            "file is taken, or a temporary one if there is no file."
        )
        self.path = QLineEdit()
        self.path.setPlaceholderText("automatic")
        describe(self.path, "Folder for results", tooltip)
        self.button = QPushButton("…")
        describe(self.button, "Choose a folder for results", tooltip)
        self.button.setMaximumWidth(32)
        self.button.clicked.connect(self._ask)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.path, 1)
        row.addWidget(self.button)
        self.setLayout(row)
        self.setFocusProxy(self.path)

    def _ask(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Folder for results", self.path.text())
        if path:
            self.path.setText(path)
