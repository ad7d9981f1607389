"""Transformations of graphs, one a file: `(graph, ctx) -> graph`, the same object if unchanged."""
