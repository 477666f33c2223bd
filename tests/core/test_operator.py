from __future__ import annotations

import pytest
import torch
from conformance import F64, close, img, kern, maps
from hypothesis import given, settings
from hypothesis import strategies as st

from blurfield.boundary import BOUNDARIES, extend
from blurfield.field import KernelField
from blurfield.operator import BlurOperator, saturate, saturate_derivative

X = img(3, 40, 36)
FIELD = KernelField(kern(4, 9), maps(4, 40, 36))


def reference_forward(field: KernelField, sharp: torch.Tensor, boundary: str) -> torch.Tensor:
    """Blur by its definition, without transforms or tiles."""
    radius = 0 if boundary == "valid" else field.kernel_size // 2
    extended = extend(sharp, radius, boundary)
    blurred = torch.nn.functional.conv2d(extended[:, None], field.basis[:, None])
    return (blurred * field.full_mixing()).sum(1)


def random_field(seed: int, shape: tuple[int, int], kind: str, size: int = 5, number: int = 3):
    generator = torch.Generator().manual_seed(seed)
    if kind == "dense":
        number = size * size
        basis = torch.eye(number, dtype=F64).reshape(number, size, size)
    else:
        basis = torch.rand(number, size, size, generator=generator, dtype=F64) + 0.01
        basis = basis / basis.sum((1, 2), keepdim=True)
    cells = (3, 4) if kind == "coarse" else shape
    logits = 3 * torch.randn(number, *cells, generator=generator, dtype=F64)
    return KernelField(basis, logits.softmax(0), shape)


def check(image: torch.Tensor, mean: float, ss: float, values: dict[tuple[int, ...], float]):
    assert close(image.mean(), mean)
    assert close(image.square().sum(), ss)
    for index, value in values.items():
        assert close(image[index], value)


class TestConformance:
    """Appendix A.3: figures made by the published code."""

    def test_forward(self):
        check(
            BlurOperator(FIELD).forward(X),
            5.116930163041e-1,
            1.247386824349e3,
            {
                (0, 0, 0): 8.481328702930e-1,
                (1, 20, 17): 4.366099702515e-1,
                (2, 39, 35): 7.543813068737e-1,
            },
        )

    def test_published_back_projection(self):
        blurry = BlurOperator(FIELD).forward(X)
        assert not torch.allclose(blurry, X)
        check(
            BlurOperator(FIELD.rotated()).forward(X),
            5.124661161451e-1,
            1.250432302687e3,
            {
                (0, 0, 0): 8.481328702930e-1,
                (1, 20, 17): 4.408565492033e-1,
                (2, 39, 35): 7.543813068737e-1,
            },
        )

    def test_true_adjoint(self):
        check(
            BlurOperator(FIELD).adjoint(X),
            5.130407152633e-1,
            1.286619676069e3,
            {
                (0, 0, 0): 2.636133054942e-1,
                (1, 20, 17): 4.309661070060e-1,
                (2, 39, 35): 2.522518372409e-1,
            },
        )

    def test_valid(self):
        inner = KernelField(kern(4, 9), maps(4, 40, 36)[:, 4:-4, 4:-4])
        check(
            BlurOperator(inner, boundary="valid").forward(X),
            4.938291222541e-1,
            7.200566171538e2,
            {(0, 0, 0): 7.878543547721e-1, (2, 31, 27): 6.365259037607e-1},
        )

    def test_circular_pair(self):
        field = KernelField(kern(4, 9), maps(4, 21, 30))
        operator, x = BlurOperator(field, boundary="circular"), img(3, 21, 30)
        forward, adjoint = operator.forward(x), operator.adjoint(x)
        assert close(forward.square().sum(), 5.242694251992e2)
        assert close(forward[0, 0, 0], 5.636673536761e-1)
        assert close(forward[1, 10, 17], 5.936873372829e-1)
        assert close(adjoint.square().sum(), 5.254099670664e2)
        assert close(adjoint[0, 0, 0], 5.397913836371e-1)
        assert close(adjoint[1, 10, 17], 5.945233549762e-1)

    def test_saturation(self):
        x = torch.tensor([0.2, 0.9, 1.0, 1.2, 2.0], dtype=F64)
        expected = torch.tensor([0.2, 0.89987, 0.98614, 1.0, 1.0], dtype=F64)
        assert torch.allclose(saturate(x), expected, atol=6e-5)
        slopes = torch.tensor([1.0, 0.99331, 0.5, 4.54e-5, 1.39e-11], dtype=F64)
        assert torch.allclose(saturate_derivative(x), slopes, rtol=1e-3, atol=1e-12)
        centred = torch.tensor([-0.7, -0.5, -0.3, 0.4, 0.5, 0.7], dtype=F64)
        expected = torch.tensor([-0.5, -0.5, -0.3, 0.39987, 0.48614, 0.5], dtype=F64)
        assert torch.allclose(saturate(centred, ceiling=0.5), expected, atol=1e-4)

    def test_saturation_keeps_its_input(self):
        x = torch.tensor([0.5, 3.0])
        saturate(x)
        assert x.tolist() == [0.5, 3.0]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    height=st.integers(5, 48),
    width=st.integers(5, 48),
    boundary=st.sampled_from(BOUNDARIES),
    kind=st.sampled_from(["full", "coarse", "dense"]),
    channels=st.integers(1, 4),
)
def test_adjoint_and_forward_are_a_pair(seed, height, width, boundary, kind, channels):
    field = random_field(seed, (height, width), kind)
    operator = BlurOperator(field, boundary=boundary)
    generator = torch.Generator().manual_seed(seed + 1)
    u = torch.randn(channels, *operator.input_shape, generator=generator, dtype=F64)
    v = torch.randn(channels, *operator.output_shape, generator=generator, dtype=F64)
    blurred = operator.forward(u)
    assert torch.allclose(blurred, reference_forward(field, u, boundary), rtol=0, atol=1e-12)
    left, right = (blurred * v).sum(), (u * operator.adjoint(v)).sum()
    assert abs(left - right) < 1e-10 * (1 + u.norm() * v.norm())


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("kind", ["full", "coarse"])
def test_many_tiles_agree_with_the_definition(boundary, kind):
    field = random_field(3, (301, 417), kind, size=15, number=5)
    operator = BlurOperator(field, boundary=boundary)
    u = torch.randn(2, *operator.input_shape, dtype=F64, generator=torch.Generator().manual_seed(0))
    expected = reference_forward(field, u, boundary)
    assert torch.allclose(operator.forward(u), expected, rtol=0, atol=1e-12)
    # A second call reads the maps that the first one kept.
    assert torch.allclose(operator.forward(u), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["full", "coarse", "dense"])
@pytest.mark.parametrize("boundary", ["reflect", "valid"])
def test_gradients(kind, boundary):
    field = random_field(1, (9, 8), kind, size=3, number=2)
    basis = field.basis.clone().requires_grad_(kind != "dense")
    mixing = field.mixing.clone().requires_grad_()
    margin = 2 if boundary == "valid" else 0
    u = torch.randn(2, 9 + margin, 8 + margin, dtype=F64, requires_grad=True)
    v = torch.randn(2, 9, 8, dtype=F64, requires_grad=True)

    def forward(u, basis, mixing):
        free = KernelField.__new__(KernelField)  # gradcheck leaves the simplex
        free._basis, free._mixing, free._shape = basis, mixing, field.shape
        free._metadata, free._one_tap = {}, field.is_one_tap
        return BlurOperator(free, boundary=boundary).forward(u)

    def adjoint(v, basis, mixing):
        free = KernelField.__new__(KernelField)
        free._basis, free._mixing, free._shape = basis, mixing, field.shape
        free._metadata, free._one_tap = {}, field.is_one_tap
        return BlurOperator(free, boundary=boundary).adjoint(v)

    assert torch.autograd.gradcheck(forward, (u, basis, mixing))
    assert torch.autograd.gradcheck(adjoint, (v, basis, mixing))


def test_rows_sum_to_one_and_columns_do_not():
    operator = BlurOperator(FIELD)
    assert torch.allclose(operator.forward(torch.ones_like(X)), torch.ones_like(X))
    sums = operator.column_sums()
    assert sums.shape == (1, 40, 36)
    assert close(sums.sum(), 40 * 36)
    assert (sums - 1).abs().max() > 0.1


def test_normal_is_adjoint_of_forward():
    operator = BlurOperator(FIELD)
    assert torch.equal(operator.normal(X), operator.adjoint(operator.forward(X)))


def test_pruning_is_bounded_and_keeps_brightness():
    field = random_field(5, (200, 210), "coarse", size=9, number=12)
    logits = field.mixing.log() * 4
    field = KernelField(field.basis, logits.softmax(0), field.shape).to(dtype=torch.float32)
    u = torch.rand(1, *field.shape, generator=torch.Generator().manual_seed(0))
    exact = BlurOperator(field, prune=0).forward(u)
    pruned = BlurOperator(field, prune=1e-2)
    assert max(len(group.kernels) for group in pruned._engine._groups) < 12
    difference = (pruned.forward(u) - exact).abs().max()
    assert 0 < difference < 1e-2
    assert torch.allclose(pruned.forward(torch.ones_like(u)), torch.ones_like(u), atol=1e-5)
    v = torch.rand(1, *field.shape, generator=torch.Generator().manual_seed(1))
    left, right = (pruned.forward(u) * v).sum(), (u * pruned.adjoint(v)).sum()
    assert abs(left - right) < 1e-5 * left


def test_leading_axes_and_precision():
    field = FIELD.to(dtype=torch.float32)
    operator = BlurOperator(field)
    stack = X.float().expand(2, 3, 40, 36)
    out = operator.forward(stack)
    assert out.shape == stack.shape
    assert out.dtype == torch.float32
    assert torch.allclose(out[1, 2], operator.forward(X[2].float()), atol=1e-6)
    half = operator.forward(X.half())
    assert half.dtype == torch.float32


def test_same_twice():
    operator = BlurOperator(FIELD.to(dtype=torch.float32))
    assert torch.equal(operator.forward(X), operator.forward(X))


def test_poll_stops_the_computation():
    class Stop(Exception):
        pass

    def stop():
        raise Stop

    with pytest.raises(Stop):
        BlurOperator(FIELD, poll=stop).forward(X)


class TestBadInput:
    def test_unknown_boundary(self):
        with pytest.raises(ValueError, match="unknown boundary 'mirror'; use one of reflect"):
            BlurOperator(FIELD, boundary="mirror")

    def test_image_smaller_than_kernel(self):
        field = KernelField.uniform(torch.full((9, 9), 1 / 81), (8, 20))
        with pytest.raises(ValueError, match="8×20 pixels, smaller than the 9×9 kernels"):
            BlurOperator(field)

    def test_wrong_image_size(self):
        with pytest.raises(ValueError, match=r"shape \(3, 40, 35\).*takes \(\.\.\., 40, 36\)"):
            BlurOperator(FIELD).forward(X[..., 1:])

    def test_complex_image(self):
        with pytest.raises(TypeError, match="real numbers"):
            BlurOperator(FIELD).forward(X.to(torch.complex128))

    def test_prune_out_of_range(self):
        with pytest.raises(ValueError, match=r"prune must be in \[0, 1\)"):
            BlurOperator(FIELD, prune=1)
