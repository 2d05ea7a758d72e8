"""Batches of graphs (torch-geometric) as problems: answers live on the edges."""

from torch_geometric.data import Batch

from .layout import Layout, Segment, default_layout


@default_layout.register
def edge_layout(x: Batch) -> Layout:
    """One row of ``y`` for each edge, in the order of ``edge_index``; each graph is a sample."""
    sources = x["edge_index"][0]
    return Segment(x["batch"][sources], x.num_graphs)
