"""Tables that fit the terminal by leaving columns out: no name is ever cut, no cell wrapped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.table import Table

GAP = 2  # blanks between columns


def fitting(records: Sequence[Mapping[str, str]], keep: Sequence[str], width: int) -> Table:
    """The table of `records`, whose keys are its columns, in `width` characters.

    Parameters
    ----------
    records : rows; all with the same keys, in the order of the columns.
    keep : columns, the dearest first: of those that do not fit together the last are left out, the first one never.
        A column without an entry is left out anyway, and one that is not named.
    """
    sizes = {name: max(cell_len(text) for text in (name, *(r[name] for r in records))) for name in keep}
    shown: list[str] = []
    left = width + GAP
    for name in keep:
        if not any(record[name] for record in records):
            continue
        if shown and sizes[name] + GAP > left:
            break
        shown.append(name)
        left -= sizes[name] + GAP
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False)
    for name in (name for name in next(iter(records), {}) if name in shown):
        numbers = all(text == "" or text[0] in "-0123456789" for text in (record[name] for record in records))
        table.add_column(
            name, no_wrap=True, overflow="ignore", min_width=sizes[name], justify="right" if numbers else "left"
        )
    for record in records:
        table.add_row(*(record[str(column.header)] for column in table.columns))
    return table
