"""Derivatives, transforms and averages on the staggered grid."""
