"""Measurements: each prints figures, and judges none."""
