"""Families of linear partial differential equations."""
