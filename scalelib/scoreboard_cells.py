"""The paper's tables beside ours as HTML, cell by cell, and what does not add up in them. Knows tables only."""

from __future__ import annotations

import html
import math

import pandas as pd

from scalelib.ledger import Ledger
from scalelib.paper_cells import COMPARED, order_kept
from scalelib.scoreboard import PROFILE_WORDS
from scalelib.verdicts import number


def cells(ledger: Ledger, table: str) -> str:
    """One of the paper's tables, cell by cell: paper, ours with its interval, difference, agreement.

    Parameters
    ----------
    ledger : Ledger
    table : {"1", "2", "A1", "figure"}

    Returns
    -------
    str
        An HTML table with one row per row of the paper's and one cell per column; Table A1 and Table 2 are shaded by value.
    """
    rows = ledger.cells[ledger.cells.table == table]
    columns = list(dict.fromkeys(rows.condition))
    names = list(dict.fromkeys(zip(rows.network, rows.tap, strict=True)))
    if table == "2":
        return _cells_by_score(rows)
    if table == "1":
        columns, names = list(dict.fromkeys(rows.tap)), [("", name) for name in dict.fromkeys(rows.condition)]
        rows = rows.assign(tap=rows.condition, condition=rows.tap)
    found = rows.set_index(["network", "tap", "condition"])
    body = ""
    for network, tap in names:
        name = tap if len({n for n, _ in names}) == 1 else f"{network} {tap}"
        given = [
            _cell(found.loc[(network, tap, c)]) if (network, tap, c) in found.index else "<td></td>"
            for c in columns
        ]
        body += f'<tr><th scope="row">{html.escape(name)}</th>{"".join(given)}</tr>'
    heads = "".join(f'<th scope="col">{html.escape(CONDITION_WORDS.get(c, c))}</th>' for c in columns)
    return _table(table, f"<tr><th scope='col'></th>{heads}</tr>", body, rows)


CONDITION_WORDS = {
    "imagenet": "ImageNet weights",
    "random": "random weights",
    "shuffled": "shuffled measures",
}


def errata(sums: pd.DataFrame, corrections: pd.DataFrame) -> str:
    """Totals of Table 1 that do not add up, and the cells that would explain all of them.

    Parameters
    ----------
    sums : pandas.DataFrame
        From :func:`scalelib.table_check.check_sums`.
    corrections : pandas.DataFrame
        From :func:`scalelib.table_check.smallest_corrections`.

    Returns
    -------
    str
        HTML.
    """
    wrong = sums[sums.difference != 0]
    if wrong.empty:
        return "<p>Every row and column of Table 1 adds up.</p>"
    body = "".join(
        f"<tr><th scope='row'>{line} {html.escape(str(name))}</th><td>{printed}</td><td>{total}</td><td>{gap:+d}</td></tr>"
        for line, name, printed, total, gap in wrong.astype({"difference": int})[
            ["line", "name", "printed", "sum", "difference"]
        ].itertuples(index=False, name=None)
    )
    several = corrections.explanation.nunique()
    cells_words = "; ".join(
        f"{row.row} {row.column} = <strong>{row.corrected}</strong> (printed {row.printed}, {row.slip})"
        for row in corrections[corrections.explanation == corrections.explanation.min()].itertuples()
    )
    only = (
        "No other set of so few cells does" if several == 1 else f"It is one of {several} equally small sets"
    )
    return (
        '<div class="scoreboard-scroll" tabindex="0" role="region" aria-label="Totals of Table 1 that do not add up"><table>'
        f"<caption>{len(wrong)} of {len(sums)} rows and columns of Table 1 do not add up</caption><thead><tr><th scope='col'></th>"
        "<th scope='col'>printed total</th><th scope='col'>sum of cells</th><th scope='col'>difference</th></tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
        f"<p>The smallest set of cells that explains all of them: {cells_words}. {only}. The data file keeps the printed values.</p>"
    )


def _cells_by_score(rows: pd.DataFrame) -> str:
    parts = rows.condition.str.split(", ", expand=True)
    rows = rows.assign(row=parts[0], score=parts[1])
    ranges = rows.groupby("score").paper.agg(["min", "max"])
    body = ""
    for (network, row, tap), part in rows.groupby(["network", "row", "tap"], sort=False):
        given = ""
        for score in ("mae_px", "kappa"):
            low, high = ranges.loc[score]
            worst, best = (high, low) if score == "mae_px" else (low, high)
            given += _cell(part.set_index("score").loc[score], worst=worst, best=best)
        body += f"<tr><th scope='row'>{row} {network}, {tap}</th>{given}</tr>"
    heads = "<tr><th scope='col'></th><th scope='col'>MAE, nuclei area (px)</th><th scope='col'>Cohen's kappa</th></tr>"
    return _table("2", heads, body, rows)


def _cell(cell: pd.Series, *, worst: float = -1.0, best: float = 1.0) -> str:
    """One cell; R² and the scores of Table 2 are shaded between the worst and the best value."""
    digits = {"patches": 0, "px": 1}.get(cell.unit, 2)
    shaded = cell.unit in ("R²", "px", "1")
    shade = (lambda value: f" {_shade((value - worst) / (best - worst))}") if shaded else (lambda value: "")
    words = f'<span class="paper{shade(cell.paper)}">{_value(cell.paper, digits)}</span>'
    if cell.status != COMPARED:
        return f'<td title="needs {html.escape(cell.needs)}">{words}<span class="ours">not run</span></td>'
    interval = (
        f" ({_value(cell.low, digits)} to {_value(cell.high, digits)})" if math.isfinite(cell.low) else ""
    )
    agree = "" if pd.isna(cell.same_sign) else "; same sign" if cell.same_sign else "; other sign"
    if not pd.isna(cell.overlap):
        agree += ", overlaps" if cell.overlap else ", apart"
    gap = ("+" if cell.difference > 0 else "") + _value(cell.difference, digits)
    return (
        f'<td>{words}<span class="ours{shade(cell.ours)}">ours <b>{_value(cell.ours, digits)}</b>{interval}</span>'
        f'<span class="gap">{gap}{agree}</span></td>'
    )


def _shade(place: float) -> str:
    return f"shade-{min(max(int(place * 5), 0), 4)}"


def _value(value: float, digits: int) -> str:
    if abs(value) >= 1e6:
        return number(value)
    return f"{value:,.{digits if abs(value) < 100 else 0}f}".replace("-", "−")


def _table(table: str, head: str, body: str, rows: pd.DataFrame) -> str:
    title = f"Table {table}" if table != "figure" else "Labelled values of the figure"
    done = int((rows.status == COMPARED).sum())
    profiles = ", ".join(PROFILE_WORDS.get(p, p) for p in dict.fromkeys(rows.profile) if p)
    ours = f", ours from {profiles}" if profiles else ""
    needs = "".join(f"<li>{html.escape(words)}</li>" for words in dict.fromkeys(rows.needs) if words)
    left = f"<p>What was not run needs:</p><ul>{needs}</ul>" if needs else ""
    order = _order(rows if table != "1" else _by_split(rows))
    return (
        f'<div class="scoreboard-scroll" tabindex="0" role="region" aria-label="{title}"><table class="cells">'
        f"<caption>{title}: {done} of {len(rows)} cells compared{ours}</caption><thead>{head}</thead><tbody>{body}</tbody></table></div>"
        f"{order}{left}"
    )


def _order(rows: pd.DataFrame) -> str:
    """In which columns of a table our values stand in the paper's order."""
    found = []
    for condition, part in rows.groupby("condition", sort=False):
        kept, pairs = order_kept(part)
        if pairs:
            name = CONDITION_WORDS.get(str(condition), str(condition))
            words = f"{name}: {kept} of {pairs} pairs in the paper's order"
            signs = part.same_sign[part.status == COMPARED].dropna().astype(bool)
            found.append(words + (f", {signs.sum()} of {len(signs)} signs the same" if len(signs) else ""))
    lead = "Order and sign" if rows.same_sign.notna().any() else "Order"
    return f"<p>{lead}. {html.escape('; '.join(found))}.</p>" if found else ""


def _by_split(rows: pd.DataFrame) -> pd.DataFrame:
    """Table 1 without its totals, to be ordered by magnification within each split."""
    rows = rows.assign(condition=rows.tap, tap=rows.condition)
    return rows[(rows.tap != "total") & (rows.condition != "total")]
