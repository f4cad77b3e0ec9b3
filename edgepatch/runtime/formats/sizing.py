"""A .tflite laid out for images of another size: the shapes of its tensors, found anew from its own operators.

Kernels do not depend on the size of what they see. Shapes do, and so do the vectors of ones with which the form `bind`
lays scale and bias out for a row of pixels (docs/decisions/0012-one-graph-any-size.md).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from edgepatch.runtime.formats import flatbuffer as fb
from edgepatch.runtime.formats.flatbuffer import Edit, Table, Vector

if TYPE_CHECKING:
    from edgepatch.runtime.graph_file import Graph

# kinds of operators' options, by the schema's numbers; all other operators leave an image's size as it is
CONVOLUTIONS, PAD, REDUCER = (1, 2), 22, 27
WIDEST = 1 << 16  # side of any tensor: nothing that a network makes of its largest image, zeros around it included
ROWS = 1 << 22  # pixels of all rows of ones: each of a file's tensors may ask for one
VALID = 1  # the padding of a convolution that has none


def layout(graph: Graph, form: str, size: int) -> tuple[list[Edit], list[Vector]]:
    """Edits that lay a form out for images of a size, and what is to be pointed at behind the end.

    Raises:
        ValueError, IndexError, struct.error: the network cannot be laid out for it.
    """
    subgraph = Table(graph.data, graph.views[form].subgraph)
    tensors = [Table(graph.data, position) for position in subgraph.tables(fb.SUBGRAPH_TENSORS)]
    buffers = fb.root(graph.data).tables(fb.MODEL_BUFFERS)
    images: dict[int, int] = {}  # sides of tensors (1, side, side, channels)
    rows: dict[int, int] = {}  # of vectors laid out for a row of pixels, (side, channels), and of the ones before that

    def shape(number: int) -> list[int]:
        return tensors[number].numbers(fb.TENSOR_SHAPE)

    def data(number: int) -> Table:
        return Table(graph.data, buffers[tensors[number].number(fb.TENSOR_BUFFER)])

    for number in subgraph.numbers(fb.SUBGRAPH_INPUTS):
        if len(shape(number)) == 4:
            images[number] = size
    made_of: dict[int, list[int]] = {}
    for operator in (Table(graph.data, position) for position in subgraph.tables(fb.SUBGRAPH_OPERATORS)):
        reads, makes = operator.numbers(fb.OPERATOR_INPUTS), operator.numbers(fb.OPERATOR_OUTPUTS)
        made_of |= dict.fromkeys(makes, reads)
        sides = [images[read] for read in reads if read in images]
        if not sides or len(shape(makes[0])) != 4:
            continue
        side, kind = max(sides), operator.byte(fb.OPERATOR_KIND)
        if kind in CONVOLUTIONS:
            options = operator.table(fb.OPERATOR_OPTIONS)
            stride, width = options.number(fb.CONVOLUTION_STRIDE), shape(reads[1])[1]
            taken = width if options.byte(fb.CONVOLUTION_PADDING) == VALID else 1
            side = (side - taken) // stride + 1
        elif kind == PAD:
            side += sum(struct.unpack_from("<2i", graph.data, data(reads[1]).vector(fb.BUFFER_DATA)[0] + 8))
        elif kind == REDUCER:
            side = 1
        else:
            for row in (read for read in reads if len(shape(read)) == 2):
                for number in (row, made_of[row][0]):
                    if rows.setdefault(number, side) != side:
                        raise ValueError(f"tensor {number} is laid out for rows of two lengths")
        if not 1 <= side <= WIDEST:
            raise ValueError(f"{size} pixels leave {side} of tensor {makes[0]}")
        images[makes[0]] = side

    def place(number: int) -> int:
        return tensors[number].vector(fb.TENSOR_SHAPE, 4)[0]

    edits: list[Edit] = [(place(number) + 4, struct.pack("<2i", side, side)) for number, side in images.items()]
    edits += [(place(number), struct.pack("<i", side)) for number, side in rows.items()]
    ones = {number: side for number, side in rows.items() if number not in made_of}
    if sum(ones.values()) > ROWS:
        raise ValueError(f"rows of {sum(ones.values())} pixels")
    vectors = [
        (data(number).need(fb.BUFFER_DATA), np.ones(side, "<f4").tobytes(), 4 * side) for number, side in ones.items()
    ]
    return edits, vectors
