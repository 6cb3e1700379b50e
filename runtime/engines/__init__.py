"""Engines that run a graph: one small interface, a table of three."""
