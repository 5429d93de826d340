"""Which closure is better, by how much, how sure, and at what price: `compare` makes the report."""

from closures.compare.campaign import compare

__all__ = ["compare"]
