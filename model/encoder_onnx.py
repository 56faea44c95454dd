"""The encoder's network as an ONNX graph, built in memory from verified weights and run by ONNX Runtime on the CPU.

The graph is written by hand instead of exported: 43 nodes that can be read against the paper, no cached file that would
have to be trusted, no exporter at start-up. It takes groups of equally long texts: no padding, no attention mask.

N1  The vector of a row does not depend on the other rows nor on the number of threads, bitwise. Every operator works row
    by row, the matrix kernels add along the inner dimension in the same order for any number of rows, and the mean is
    taken outside the graph: ONNX Runtime's ReduceMean adds in another order for one row than for several.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model.encoder_weights import HEADS, LAYERS, NORM_EPSILON, WIDTH, Tensor

if TYPE_CHECKING:
    from onnx import ModelProto

FUSED = "com.microsoft"  # ONNX Runtime's own operators; each replaces several plain ones

Network = Callable[[NDArray[np.int32]], Tensor]  # ids (n, s) -> unit vectors (n, 384)


def open_onnx(weights: Mapping[str, Tensor], threads: int) -> Network:
    """A network on `threads` CPU threads. Calls release the interpreter lock; the weights are copied."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the memories' own work needs the cores
    model = build_graph(weights).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(ids: NDArray[np.int32]) -> Tensor:
        return unit_means(session.run([session.get_outputs()[0].name], {"ids": ids})[0])

    return run


def build_graph(weights: Mapping[str, Tensor]) -> "ModelProto":
    """The model `ids (n, s) int32 -> token vectors (n, s, 384) float32`: BERT (Devlin et al. 2019), post-norm."""
    from onnx import TensorProto, helper

    graph = _Graph(weights)
    hidden = _embed(graph)
    for layer in range(LAYERS):
        hidden = _attend(graph, hidden, f"encoder.layer.{layer}.")
        hidden = _transform(graph, hidden, f"encoder.layer.{layer}.")
    return helper.make_model(
        helper.make_graph(
            graph.nodes,
            "minilm",
            [helper.make_tensor_value_info("ids", TensorProto.INT32, ["n", "s"])],
            [helper.make_tensor_value_info(hidden, TensorProto.FLOAT, ["n", "s", WIDTH])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(FUSED, 1)],
        ir_version=8,
    )


def unit_means(hidden: Tensor) -> Tensor:
    """The mean over tokens at unit length (Reimers and Gurevych 2019): (n, s, 384) -> (n, 384), each row on its own (N1)."""
    vectors = np.empty((len(hidden), hidden.shape[2]), dtype=np.float32)
    for place, tokens in enumerate(hidden):
        mean = tokens.mean(axis=0, dtype=np.float64)
        vectors[place] = mean / np.sqrt(np.square(mean).sum())
    return vectors


class _Graph:
    """Nodes and constants in the making. Every value is named after its node's position."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, inputs: list[str], *, domain: str = "", output: str = "", **settings: int | float) -> str:
        from onnx import helper

        name = output or f"{operator}_{len(self.nodes)}"
        node = helper.make_node(operator, inputs, [name], domain=domain)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in settings.items())
        self.nodes.append(node)
        return name

    def constant(self, name: str, value: Tensor) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def vector(self, name: str) -> str:
        return self.constant(name, self.weights[name])

    def product(self, inputs: str, name: str) -> str:
        # torch keeps linear weights as (out, in); a constant right factor (in, out) is packed once for the kernel
        return self.add("MatMul", [inputs, self.constant(name, self.weights[name].T)])

    def add_and_norm(self, left: str, right: str, dense: str, norm: str) -> str:
        """LayerNorm(left + right + bias of `dense`)."""
        inputs = [left, right, self.vector(f"{norm}.weight"), self.vector(f"{norm}.bias"), self.vector(f"{dense}.bias")]
        return self.add("SkipLayerNormalization", inputs, domain=FUSED, epsilon=NORM_EPSILON)


def _embed(graph: _Graph) -> str:
    weights = graph.weights
    # one text is one segment, so its type vector is a constant and joins the positions
    places = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    words = graph.vector("embeddings.word_embeddings.weight")
    norm = [graph.vector("embeddings.LayerNorm.weight"), graph.vector("embeddings.LayerNorm.bias")]
    inputs = ["ids", "", words, graph.constant("places", places), "", *norm]
    graph.add("EmbedLayerNormalization", inputs, domain=FUSED, output="embedded", epsilon=NORM_EPSILON)
    graph.nodes[-1].output.append("unused")  # the operator insists on a second output, the mask of lengths
    return "embedded"


def _attend(graph: _Graph, hidden: str, layer: str) -> str:
    """LayerNorm(hidden + self-attention), 12 heads of 32; shapes stay (n, s, 384)."""
    parts = [f"{layer}attention.self.{part}" for part in ("query", "key", "value")]
    factor = np.concatenate([graph.weights[f"{part}.weight"] for part in parts]).T  # (384, 3 * 384)
    bias = np.concatenate([graph.weights[f"{part}.bias"] for part in parts])
    inputs = [
        hidden,
        graph.constant(f"{layer}attention.weight", factor),
        graph.constant(f"{layer}attention.bias", bias),
    ]
    heads = graph.add("Attention", inputs, domain=FUSED, num_heads=HEADS)
    mixed = graph.product(heads, f"{layer}attention.output.dense.weight")
    return graph.add_and_norm(hidden, mixed, f"{layer}attention.output.dense", f"{layer}attention.output.LayerNorm")


def _transform(graph: _Graph, hidden: str, layer: str) -> str:
    """LayerNorm(hidden + feed-forward), (n, s, 384) -> (n, s, 1536) -> (n, s, 384), with the exact GELU."""
    wide = graph.product(hidden, f"{layer}intermediate.dense.weight")
    active = graph.add("BiasGelu", [wide, graph.vector(f"{layer}intermediate.dense.bias")], domain=FUSED)
    narrow = graph.product(active, f"{layer}output.dense.weight")
    return graph.add_and_norm(hidden, narrow, f"{layer}output.dense", f"{layer}output.LayerNorm")
