from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from blurfield.images import LinearImage, decode, encode, require_min_size, to_grey


def ramp(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Values over the whole range of the type, in no particular order."""
    values = (np.arange(np.prod(shape)) * 97 % 256).reshape(shape) / 255
    kind = np.dtype(dtype).kind
    if kind == "b":
        return values > 0.5
    return (values * (np.iinfo(dtype).max if kind in "ui" else 1)).astype(dtype)


DTYPES = ["bool", "uint8", "uint16", "int16", "int32", "uint32", "float16", "float32", "float64"]


@pytest.mark.parametrize("shape", [(5, 4), (5, 7, 3), (5, 7, 4), (1, 1), (4, 3), (3, 4)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip_is_exact(dtype: str, shape: tuple[int, ...]) -> None:
    array = ramp(shape, dtype)
    before = array.copy()
    image = LinearImage.from_array(array)
    back = image.to_array(image.planes)
    assert isinstance(back, np.ndarray)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    tolerance = {"float32": 1e-6, "float64": 1e-6, "int32": 1e-7 * 2**31, "uint32": 1e-7 * 2**32}
    np.testing.assert_allclose(
        back.astype(float), array.astype(float), rtol=0, atol=tolerance.get(dtype, 0)
    )
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
def test_every_8_and_16_bit_value_survives_any_gamma(gamma: float) -> None:
    for dtype, count in (("uint8", 256), ("uint16", 65536)):
        array = np.arange(count, dtype=dtype).reshape(16, -1)
        image = LinearImage.from_array(array, gamma=gamma)
        np.testing.assert_array_equal(image.to_array(image.planes), array)


def test_planes_are_linear_light_with_white_1() -> None:
    array = np.array([[0, 128, 255]], np.uint8)
    image = LinearImage.from_array(np.stack([array] * 2, axis=-1), channel_axis=2)
    assert image.gamma == 2.2
    assert image.shape == (1, 3)
    assert image.planes.dtype == torch.float32
    expected = torch.tensor([0, (128 / 255) ** 2.2, 1]).expand(2, 1, 3)
    torch.testing.assert_close(image.planes, expected)


@pytest.mark.parametrize(
    ("dtype", "gamma"),
    [("uint8", 2.2), ("bool", 2.2), ("uint16", 1), ("int32", 1), ("float16", 1), ("float32", 1)],
)
def test_gamma_auto(dtype: str, gamma: float) -> None:
    assert LinearImage.from_array(ramp((4, 5), dtype)).gamma == gamma


@pytest.mark.parametrize(
    ("values", "white"),
    [
        (np.array([[0, 1]], bool), 1),
        (np.array([[0, 7]], np.uint8), 255),
        (np.array([[0, 900]], np.uint16), 1023),
        (np.array([[0, 1024]], np.uint16), 4095),
        (np.array([[0, 16383]], np.uint16), 16383),
        (np.array([[0, 16384]], np.uint16), 65535),
        (np.array([[0, 100_000]], np.int32), 100_000),
        (np.array([[-500, 500]], np.int16), 1023),
        (np.array([[0.1, 0.4]], np.float32), 1),
        (np.array([[0.1, 255.0]], np.float32), 255),
        (np.array([[-1.0, 3.0]], np.float64), 4),
        (np.array([[0.0, 1e300]], np.float64), 1e300),
    ],
)
def test_value_scale(values: np.ndarray, white: float) -> None:
    image = LinearImage.from_array(values, gamma=1)
    assert image.white == white
    assert image.planes.min() >= 0
    assert image.planes.max() <= 1
    np.testing.assert_allclose(image.to_array(image.planes), values, rtol=1e-6)


def test_integers_are_rounded_and_clipped_to_their_type() -> None:
    image = LinearImage.from_array(np.array([[0, 200]], np.uint8), gamma=1)
    planes = torch.tensor([[[-0.5, 100.6 / 255]]])
    np.testing.assert_array_equal(image.to_array(planes), [[0, 101]])
    np.testing.assert_array_equal(image.to_array(planes + 2), [[255, 255]])
    # A dim image of a wide type has room above its white.
    dim = LinearImage.from_array(np.array([[0, 900]], np.uint16))
    np.testing.assert_array_equal(dim.to_array(torch.tensor([[[2.0, 100.0]]])), [[2046, 65535]])


def test_float_results_are_not_clipped() -> None:
    image = LinearImage.from_array(np.zeros((1, 2), np.float32))
    np.testing.assert_array_equal(image.to_array(torch.tensor([[[-0.5, 3.0]]])), [[-0.5, 3]])
    half = LinearImage.from_array(np.zeros((1, 2), np.float16))
    assert np.isfinite(half.to_array(torch.tensor([[[-1e9, 1e9]]]))).all()


def test_dtype_override() -> None:
    array = np.array([[0, 128, 255]], np.uint8)
    image = LinearImage.from_array(array)
    floats = image.to_array(image.planes, dtype=np.float32)
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats, array, atol=1e-4)
    np.testing.assert_array_equal(
        image.to_array(image.planes, dtype="uint16"), array.astype(int) * 257
    )
    np.testing.assert_array_equal(image.to_array(image.planes, dtype=bool), [[0, 1, 1]])
    image = LinearImage.from_array(np.array([[0.0, 0.5, 1.0]]))
    np.testing.assert_array_equal(image.to_array(image.planes, np.uint8), [[0, 128, 255]])
    with pytest.raises(TypeError, match="complex64"):
        image.to_array(image.planes, np.complex64)
    with pytest.raises(TypeError, match="nonsense"):
        image.to_array(image.planes, "nonsense")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "bool"])
def test_alpha_passes_through_untouched(dtype: str) -> None:
    array = ramp((6, 5, 4), dtype)
    image = LinearImage.from_array(array)
    assert image.planes.shape == (3, 6, 5)
    result = image.to_array(torch.zeros_like(image.planes))
    np.testing.assert_array_equal(result[..., 3], array[..., 3])
    assert not result[..., :3].any()


def test_alpha_takes_no_part_in_the_value_scale() -> None:
    array = np.full((2, 2, 4), 1000, np.uint16)
    array[..., 3] = 65535
    image = LinearImage.from_array(array)
    assert image.white == 1023
    as_bytes = image.to_array(image.planes, np.uint8)
    np.testing.assert_array_equal(as_bytes[..., 3], 255)
    with pytest.raises(ValueError, match="alpha"):
        image.to_array(torch.zeros(3, 5, 5))


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_channel_axis(axis: int) -> None:
    array = ramp((2, 6, 4), "uint16")
    image = LinearImage.from_array(array, channel_axis=axis)
    assert image.planes.shape[0] == array.shape[axis]
    back = image.to_array(image.planes)
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("width", [3, 4])
def test_narrow_2d_images_are_grey(width: int) -> None:
    assert LinearImage.from_array(ramp((7, width), "uint8")).planes.shape == (1, 7, width)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.bfloat16, torch.float64])
def test_torch_in_torch_out(dtype: torch.dtype) -> None:
    tensor = (torch.arange(24).reshape(4, 6) * 5).to(dtype)
    image = LinearImage.from_array(tensor, gamma=1)
    back = image.to_array(image.planes)
    assert isinstance(back, torch.Tensor)
    assert back.dtype == dtype
    assert back.device == tensor.device
    assert torch.equal(back.double().round(), tensor.double())
    assert image.to_array(image.planes, dtype=torch.float16).dtype == torch.float16
    assert image.to_array(image.planes, dtype="uint8").dtype == torch.uint8


def test_float_tensors_are_copied_and_detached() -> None:
    tensor = torch.rand(5, 6, dtype=torch.float64, requires_grad=True)
    before = tensor.detach().clone()
    image = LinearImage.from_array(tensor)
    image.planes.zero_()
    assert torch.equal(tensor.detach(), before)
    assert not image.planes.requires_grad


def test_lists_foreign_byte_order_read_only_and_strided_arrays() -> None:
    assert LinearImage.from_array([[0, 1], [2, 3]]).white == 1023
    array = ramp((6, 8), "uint16")
    for variant in (array.astype(">u2"), np.asfortranarray(array), array[::-1, ::2]):
        variant.flags.writeable = False
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            image = LinearImage.from_array(variant)
        back = image.to_array(image.planes)
        assert back.dtype == variant.dtype
        np.testing.assert_array_equal(back, variant)


def bad(value: float) -> np.ndarray:
    array = np.zeros((4, 5, 3), np.float32)
    array[2, 1, 0] = value
    array[3, 4, 2] = np.nan
    return array


@pytest.mark.parametrize(
    ("image", "options", "error", "message"),
    [
        (bad(np.nan), {}, ValueError, r"2 values .* first \(nan\) at index \(2, 1, 0\)"),
        (bad(-np.inf), {}, ValueError, r"2 values .* first \(-inf\) at index \(2, 1, 0\)"),
        (np.zeros((0, 5)), {}, ValueError, r"empty: its shape is \(0, 5\)"),
        (np.zeros((4, 5), complex), {}, TypeError, "complex128"),
        (torch.zeros(4, 5, dtype=torch.complex64), {}, TypeError, "complex64"),
        (np.zeros((4, 5), object), {}, TypeError, "object"),
        ("photo.png", {}, TypeError, "<U9"),
        (np.float32(1), {}, ValueError, "0 dimensions"),
        (np.zeros(7), {}, ValueError, "1 dimensions"),
        (np.zeros((1, 1, 2, 5, 3)), {}, ValueError, "5 dimensions"),
        (np.zeros((10, 5, 6)), {}, ValueError, "channel_axis"),
        (np.zeros((5, 6)), {"channel_axis": 0}, ValueError, "needs a 3-D image"),
        (np.zeros((5, 6, 3)), {"channel_axis": 3}, ValueError, "channel_axis=3"),
        (np.zeros((5, 6)), {"gamma": 0}, ValueError, "gamma must be"),
        (np.zeros((5, 6)), {"gamma": float("nan")}, ValueError, "gamma must be"),
        (np.zeros((5, 6)), {"gamma": "srgb"}, ValueError, "'srgb'"),
        (np.full((5, 6), -1.0), {"gamma": 2.2}, ValueError, r"down to -1.*use gamma=1"),
        (np.zeros((5, 6)), {"device": "abacus"}, ValueError, "abacus"),
    ],
)
def test_refused(image: object, options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        LinearImage.from_array(image, **options)
    assert "\n" not in str(caught.value)


def test_planes_with_another_number_of_channels_are_refused() -> None:
    image = LinearImage.from_array(np.zeros((4, 5, 3)))
    with pytest.raises(ValueError, match=r"\(3, H, W\), not \(1, 4, 5\)"):
        image.to_array(torch.zeros(1, 4, 5))


def test_encode_inverts_decode() -> None:
    values = torch.linspace(0, 1, 11)
    torch.testing.assert_close(encode(decode(values, 2.2), 2.2), values)
    assert decode(values, 1) is values
    assert encode(torch.tensor([-1.0]), 2.2) == 0


def test_grey() -> None:
    torch.testing.assert_close(to_grey(torch.ones(3, 2, 2)), torch.ones(2, 2))
    green, blue = torch.zeros(3, 1, 1), torch.zeros(3, 1, 1)
    green[1], blue[2] = 1, 1
    assert to_grey(green) > to_grey(blue)
    planes = torch.rand(2, 3, 3)
    torch.testing.assert_close(to_grey(planes), (planes[0] + planes[1]) / 2)


def test_min_size() -> None:
    require_min_size((3, 8, 9), 8, "estimation")
    with pytest.raises(ValueError, match=r"7×9 pixels is too small for estimation.*8×8"):
        require_min_size((7, 9), 8, "estimation")


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        dtype=st.sampled_from([np.uint8, np.uint16, np.int16, np.bool_]),
        shape=hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
    )
)
def test_any_integer_image_round_trips(array: np.ndarray) -> None:
    image = LinearImage.from_array(array)
    np.testing.assert_array_equal(image.to_array(image.planes), array)
