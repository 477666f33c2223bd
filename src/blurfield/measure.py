"""What a kernel field says about the blur: where it is, how strong, in which direction."""

from __future__ import annotations

from .comparison import Similarity, kernel_similarity, similarity

__all__ = ["Similarity", "kernel_similarity", "similarity"]
