"""Procedural steel strips with true masks, for training and demonstration without a single real pixel."""

from training.strips.generator import Strip, StripGenerator

__all__ = ["Strip", "StripGenerator"]
