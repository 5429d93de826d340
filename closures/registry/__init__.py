"""Closures of other packages as the solver meets them: reach honoured, answers checked, errors named as their own.

The shipped closures need none of this: `closures.registry.registry` puts it around those that entry points declare.
"""
