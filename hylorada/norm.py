"""The norm of each row of an adapted weight, ||W + sBA||, without building W + sBA.

    ||w + s·bA||² = ||w||² + s·<2·wA^T + s·b(AA^T), b>        a row w of W, its row b of B (arXiv:2603.22276)

Where the update all but cancels a row, this sum of large terms leaves no digits, and the row is redone directly. Which
rows, the data say: a compiled graph holds the redoing as one operator.
"""

import torch
from torch import Tensor

CANCELLATION = 1e-3  # below this share of ||w||^2 the expanded norm has lost too many digits
CANCELLATION_HALF = 0.5  # likewise, where WA^T is computed in half precision


@torch.no_grad()
def adapted_norm(weight: Tensor, base_norm_squared: Tensor, A: Tensor, B: Tensor, scaling: float) -> Tensor:
    """Return ||W + sBA|| of each output row in float32, (d_out,).

    weight: W (d_out, d_in). base_norm_squared: ||w||^2 in float32, (d_out,). A: (r, d_in). B: (d_out, r). The one large
    product, WA^T, runs in the dtype of A, all the rest in float32.
    """
    least = CANCELLATION if A.dtype.itemsize >= 4 else CANCELLATION_HALF
    weight = weight.to(A.dtype)
    with torch.autocast(weight.device.type, enabled=False):
        product = weight @ A.T if weight.is_contiguous() else (A @ weight.T).T  # (d_out, r), W as it lies in memory
        product, A, B = product.float(), A.float(), B.float()
        growth = (torch.addmm(product, B, A @ A.T, beta=2.0, alpha=scaling) * B).sum(dim=1)  # (d_out,)
        squared = torch.add(base_norm_squared, growth, alpha=scaling)
        redo = _redo_lost_in_graph if torch.compiler.is_compiling() else redo_lost  # the operator is slower to call
        squared = redo(squared, squared < least * base_norm_squared, weight, A, B, scaling)
        return squared.clamp_min_(torch.finfo(torch.float32).tiny).sqrt_()


def redo_lost(squared: Tensor, lost: Tensor, weight: Tensor, A: Tensor, B: Tensor, scaling: float) -> Tensor:
    """Return `squared` (d_out,) with ||w + s·bA||^2, computed directly, in the rows that `lost` (d_out,) marks.

    A GPU is waited for, to know whether there are any.
    """
    squared = squared.clone()  # an operator of a graph returns none of its inputs
    if lost.any():
        squared[lost] = (weight[lost].float() + scaling * B[lost] @ A).square().sum(dim=1)
    return squared


_redo_lost_in_graph = torch.library.custom_op("hylorada::redo_lost", redo_lost, mutates_args=())


@_redo_lost_in_graph.register_fake
def _(squared: Tensor, lost: Tensor, weight: Tensor, A: Tensor, B: Tensor, scaling: float) -> Tensor:
    return torch.empty_like(squared)
