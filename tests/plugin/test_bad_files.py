"""Disks that are full, and weights that are damaged."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from in_viewer import add_field, roles

from blurfield import checkpoint_files
from blurfield.checkpoints import user_folder
from napari_blurfield.widgets import DeblurWidget, InspectorWidget

# --------------------------------------------------------------------------- full disks


def test_the_disk_is_full_while_saving(plugin, make_napari_viewer, field, tmp_path, monkeypatch):
    viewer = make_napari_viewer()
    add_field(viewer, field, kernels=False)
    path = tmp_path / "good.blurfield"
    viewer.layers.selection = {viewer.layers["field blur mask"]}
    viewer.layers.save(str(path), selected=True)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", half_written)
        for name in ("good", "new"):
            with pytest.raises(OSError, match=rf"cannot write .*{name}\.blurfield: No space left"):
                viewer.layers.save(str(tmp_path / f"{name}.blurfield"), selected=True)
    assert [p.name for p in tmp_path.iterdir()] == ["good.blurfield"]
    assert path.read_bytes() == before
    viewer.layers.save(str(tmp_path / "new.blurfield"), selected=True)
    assert (tmp_path / "new.blurfield").read_bytes() == before


def half_written(tensors, path, metadata):
    """What safetensors does when the disk is full."""
    path.write_bytes(b"half")
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


def test_the_disk_is_full_while_exporting(viewer, field, qtbot, tmp_path, monkeypatch, notes):
    add_field(viewer, field, kernels=False)
    widget = InspectorWidget(viewer)
    qtbot.addWidget(widget)
    widget.pin((20, 60))
    path = tmp_path / "kernel.csv"

    def full(target, *args, **options):
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savetxt", full)
        widget.export(path)
    (note,) = notes
    assert note.message == f"Cannot write {path}: No space left on device"
    assert not list(tmp_path.iterdir())
    widget.export(path)
    assert path.exists()


def test_files_are_whole_or_not_there_at_all(tmp_path):
    """A disk that takes no more than 300 bytes a file, for real."""
    code = """
        import os, resource, signal, sys
        from pathlib import Path
        import numpy as np
        from blurfield import KernelField
        from blurfield.annotated_tiff import write_annotated
        from blurfield.kernel_files import KERNEL_SUFFIXES, write_kernel

        folder = Path(sys.argv[1])
        psf = np.random.default_rng(0).random((25, 25), np.float32)
        field = KernelField.uniform(psf / psf.sum(), (30, 30))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
        writers = {suffix: lambda path: write_kernel(path, psf) for suffix in KERNEL_SUFFIXES}
        writers[".blurfield"] = field.save
        writers[".ome.tif"] = lambda path: write_annotated(path, psf, "YX", {})
        for suffix, writer in writers.items():
            path = folder / f"file{suffix}"
            try:
                writer(path)
            except OSError as error:
                assert str(path) in str(error), error
            else:
                raise AssertionError(f"{path} was written")
        assert not os.listdir(folder), os.listdir(folder)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------ weights


@pytest.fixture
def weights(monkeypatch, tmp_path):
    """A folder of the user's weights, at first with the denoiser that comes with the package."""
    monkeypatch.setenv("BLURFIELD_DATA", str(tmp_path))
    user_folder().mkdir()
    path = user_folder() / "denoiser.safetensors"
    shutil.copy(checkpoint_files.BUNDLED / path.name, path)
    return path


def test_damaged_weights_are_named(weights, viewer, photograph, field, qtbot, finish, notes):
    content = bytearray(weights.read_bytes())
    content[-1] ^= 0x40
    weights.write_bytes(content)
    viewer.add_image(photograph, name="cells")
    add_field(viewer, field, kernels=False)
    widget = DeblurWidget(viewer)
    qtbot.addWidget(widget)
    widget.field.value = field
    widget.method.value = "plug-and-play"
    before = list(viewer.layers)
    widget.run()
    finish(widget)
    (note,) = notes
    assert str(weights) in note.message
    assert "damaged" in note.message
    assert "install them again" in note.message
    assert list(viewer.layers) == before
    weights.unlink()
    widget.run()
    finish(widget)
    assert roles(viewer)[-1] == "deblurred"
    assert len(notes) == 1


def test_weights_cut_short_are_left_out(weights, viewer, photograph, field, qtbot, finish, notes):
    weights.write_bytes(weights.read_bytes()[:1000])
    viewer.add_image(photograph, name="cells")
    add_field(viewer, field, kernels=False)
    words = r"left out: cannot read .*denoiser.safetensors.* install them again, or delete the file"
    with pytest.warns(UserWarning, match=words):
        widget = DeblurWidget(viewer)
    qtbot.addWidget(widget)
    widget.field.value = field
    widget.method.value = "plug-and-play"
    widget.run()
    finish(widget)
    assert roles(viewer)[-1] == "deblurred"  # with the weights that come with the package
    assert {note.severity.value for note in notes} <= {"warning"}
    assert all(str(weights) in note.message for note in notes)
