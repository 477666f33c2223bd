"""The napari plugin: layers in, layers out. All mathematics is in `blurfield`."""
