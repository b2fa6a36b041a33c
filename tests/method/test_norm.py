"""The norm of the adapted weight: right to the last rows that cancel, and one operator in a compiled graph."""

import pytest
import torch
from torch import Tensor

from hylorada.norm import _redo_lost_in_graph, adapted_norm

D_OUT, D_IN, RANK, SCALING = 64, 48, 8, 0.7
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


def cancelling(rows: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """W, A, B whose first `rows` rows of W + sBA are what is left of W when it is rounded, and 1e-3 of noise."""
    torch.manual_seed(0)
    A, B = (torch.randn(RANK, D_IN) / 7).to(dtype), torch.randn(D_OUT, RANK)
    W = torch.randn(D_OUT, D_IN)
    W[:rows] = -SCALING * B[:rows] @ A.float() + 1e-3 * torch.randn(rows, D_IN)
    return W.to(dtype), A, B


def norm_and_direct(W: Tensor, A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    direct = (W.double() + SCALING * B.double() @ A.double()).norm(dim=1).float()
    return adapted_norm(W, W.float().square().sum(1), A, B, SCALING), direct


@dtypes
@pytest.mark.parametrize("rows", [0, 1, 17, D_OUT])
def test_however_many_rows_cancel_each_has_the_direct_norm(rows, dtype):
    got, direct = norm_and_direct(*cancelling(rows, dtype))
    torch.testing.assert_close(got[:rows], direct[:rows], rtol=1e-4, atol=0)
    torch.testing.assert_close(got[rows:], direct[rows:], rtol=1e-5 if dtype == torch.float32 else 5e-3, atol=0)


@dtypes
def test_rows_of_zeros_have_a_norm_that_can_be_divided_by(dtype):
    W, A, B = cancelling(5, dtype)
    W[6], B[6] = 0, 0
    W[7] = 0  # what is there is the update alone
    B[8] = 0  # and here the base
    got, direct = norm_and_direct(W, A, B)
    assert 0 < got[6] < 1e-18 and direct[6] == 0
    torch.testing.assert_close(got[7:9], direct[7:9], rtol=1e-5, atol=0)


@dtypes
@pytest.mark.parametrize("rows", [0, 17])
def test_one_compiled_graph_gives_the_same_norm(rows, dtype):
    W, A, B = cancelling(rows, dtype)
    squared = W.float().square().sum(1)
    compiled = torch.compile(adapted_norm, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(W, squared, A, B, SCALING), adapted_norm(W, squared, A, B, SCALING))
    torch._dynamo.reset()


@pytest.mark.parametrize("lost", [False, True])
def test_the_operator_is_what_the_compiler_is_told(lost):
    W, A, B = cancelling(3, torch.float32)
    torch.library.opcheck(_redo_lost_in_graph, (torch.zeros(D_OUT), torch.full((D_OUT,), lost), W, A, B, SCALING))
