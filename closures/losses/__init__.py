"""Errors between fields and residuals of the equations, as functions of tensors; integrals count cells by volume."""
