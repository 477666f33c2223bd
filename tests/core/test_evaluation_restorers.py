"""Contenders when ways to deblur are measured: ours by name, and those of scikit-image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from drawings import photograph

from blurfield import Cancelled
from blurfield.evaluation import Setting
from blurfield.evaluation import restorers as restorers_module
from blurfield.evaluation.restorers import Restorer, plain_name, restorers
from blurfield.evaluation.scenes import make_scene
from blurfield.restoration.methods import METHODS, Method

RL, SK_RL, SK_WIENER = "richardson-lucy", "skimage richardson_lucy", "skimage unsupervised_wiener"
CPU = torch.device("cpu")


def test_all_that_is_ours_and_installed_takes_part(monkeypatch: pytest.MonkeyPatch) -> None:
    solver = "richardson_lucy:richardson_lucy"
    monkeypatch.setitem(METHODS, "two", Method("Two", {"fast": solver, "best": solver}))
    monkeypatch.setitem(METHODS, "away", Method("Away", {"one": solver}, weights="nothing"))
    names = [restorer.name for restorer in restorers()]
    assert [n for n in names if n.startswith(("rich", "two"))] == [RL, "two:fast", "two:best"]
    assert names[-2:] == [SK_RL, SK_WIENER]
    assert not {"richardson-lucy:combined", "away"} & set(names)


def test_contenders_by_name() -> None:
    chosen = restorers([f"{RL}:combined", RL, f"{RL}:adjoint", SK_RL])
    assert [restorer.name for restorer in chosen] == [f"{RL}:combined", RL, SK_RL]
    assert chosen[0].options == {"variant": "combined"}
    assert [restorer.is_rival for restorer in chosen] == [False, False, True]
    with pytest.raises(ValueError, match=r"'sharpen'.*known: richardson-lucy"):
        restorers(["sharpen"])


def modelled(planes: Any, field: Any, *, gamma: Any, smoothing: Any, progress: Any,
             saturation: bool = True) -> Any:  # fmt: skip
    """A solver that can be told not to model clipped light."""
    return planes * (1.0 if saturation else 0.5), {}


def test_models_of_clipped_light_are_compared_with_none(monkeypatch: pytest.MonkeyPatch) -> None:
    method = Method("Modelled", {"one": "m:f", "two": "m:f"})
    monkeypatch.setattr(Method, "solver", lambda *_: modelled)
    monkeypatch.setitem(METHODS, "modelled", method)
    found = restorers(["modelled:one"])[0].for_clipped_light()
    assert [other.name for other in found] == ["modelled:one", plain_name("modelled:one")]
    scene = make_scene(photograph(), "p", "uniform", Setting("uniform", 9), 0, 0)
    images = []
    for other in found:
        ((_, image),) = other.attempts(scene.blurry, scene.truth, 2.2, CPU, lambda: None)
        images.append(image)
    np.testing.assert_allclose(images[1], images[0] * 0.5 ** (1 / 2.2), atol=1 / 255)
    assert Restorer(SK_RL, SK_RL).for_clipped_light() == []


def test_methods_without_such_a_model_take_part_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restorers_module, "_SATURATION", "no option of this name")
    (restorer,) = restorers([RL])
    assert restorer.for_clipped_light() == [restorer]


@pytest.mark.parametrize("name", [SK_RL, SK_WIENER])
@pytest.mark.parametrize("grey", [False, True])
def test_rivals_deblur_up_to_the_edges(name: str, grey: bool) -> None:
    image = photograph()[:-3]  # neither square nor of an even height
    setting = Setting("uniform", max_extent=9, noise=0.001)
    scene = make_scene(image[..., 0] if grey else image, "p", "uniform", setting, 0, 0)
    errors = {}
    for key, result in Restorer(name, name).attempts(
        scene.blurry, scene.truth, scene.gamma, CPU, lambda: None
    ):
        assert result.shape == scene.blurry.shape
        errors[key] = np.sqrt(np.square(result - scene.sharp()).mean())
    before = np.sqrt(np.square(scene.blurry / 255 - scene.sharp()).mean())
    assert min(errors.values()) < 0.75 * before
    assert len(errors) == {SK_RL: 5, SK_WIENER: 2}[name]


def test_rivals_can_be_stopped() -> None:
    scene = make_scene(photograph(), "p", "uniform", Setting("uniform", 9), 0, 0)

    def stop() -> None:
        raise Cancelled

    for name in (SK_RL, SK_WIENER):
        with pytest.raises(Cancelled):
            next(Restorer(name, name).attempts(scene.blurry, scene.truth, 2.2, CPU, stop))
