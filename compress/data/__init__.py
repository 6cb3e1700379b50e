"""Data sets of photographs with human scores, and how they are split."""
