"""Which requests may share a batch: those whose tensors have rows of equal shape.

Nothing is padded: padding changes what a graph without a mask answers, and costs time for places that nobody asked
about. Shapes travel only of tensors with a free size, so all requests to a model without one share a bucket.
"""

from __future__ import annotations

from collections.abc import Sequence

Bucket = tuple[int, ...]
ALL: Bucket = ()  # of a model whose shapes are fixed


def bucket_of(shapes: Sequence[Sequence[int]]) -> Bucket:
    """Return what requests that may share a batch have in common, fit for a dictionary's key.

    Args:
        shapes: of each tensor with a free size, in contract order: the shape of a row, as `Packed.shapes` has it.

    A shape's number of dimensions stands before it, so that two shapes never read as two others.

    >>> bucket_of([[128], [2, 64]])
    (1, 128, 2, 2, 64)
    >>> bucket_of([])
    ()
    """
    if not shapes:
        return ALL
    if len(shapes) == 1 and len(shapes[0]) == 1:  # a text's ids, where a tenth of a microsecond shows
        return (1, shapes[0][0])
    return tuple(part for shape in shapes for part in (len(shape), *shape))


def may_share(one: Sequence[Sequence[int]], other: Sequence[Sequence[int]]) -> bool:
    """Say whether two requests to one model may share a batch, by the shapes of their tensors.

    >>> may_share([[128]], [[128]]), may_share([[128]], [[127]])
    (True, False)
    """
    return bucket_of(one) == bucket_of(other)
