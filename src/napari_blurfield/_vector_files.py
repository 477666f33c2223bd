"""Motion vectors as tables."""

from __future__ import annotations

from typing import Any


def write_vectors(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save a Vectors layer as a table with a row for each vector.

    Parameters
    ----------
    path : str
        Gets the extension ``.csv`` if it has another one or none.
    data : array-like, shape (N, 2, D)
        Origins and projections, in pixels.
    attributes : dict
        Of the layer; its features become columns.

    Returns
    -------
    list of str
        The file that was written: columns ``index``, ``axis-0`` … (origin, as in napari's tables of
        points), ``vector-0`` … (projection), and the features.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    import numpy as np
    from pandas import DataFrame

    from blurfield.files import atomic_write

    vectors = np.asarray(data)
    columns: dict[str, Any] = {"index": np.arange(len(vectors))}
    columns |= {f"axis-{i}": vectors[:, 0, i] for i in range(vectors.shape[2])}
    columns |= {f"vector-{i}": vectors[:, 1, i] for i in range(vectors.shape[2])}
    features = DataFrame(attributes.get("features"))
    columns |= {name: features[name].to_numpy() for name in features if name not in columns}
    if not path.lower().endswith(".csv"):
        path += ".csv"
    with atomic_write(path) as temporary:
        DataFrame(columns).to_csv(temporary, index=False)
    return [path]


__all__ = ["write_vectors"]
