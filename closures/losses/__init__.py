"""Errors between fields, as functions of tensors; every integral is weighted with the volumes of the cells."""
