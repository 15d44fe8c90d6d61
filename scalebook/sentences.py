"""What verdicts on a claim say together, in the claim's own words for it. Knows verdicts, neither tables nor pages."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from scalebook.claims import HOLDS, NOT_RUN, REFUTED, UNCONTRADICTED, UNDECIDED, Claim
from scalebook.predicates import number

# The networks that the paper itself uses, as results name them.
OWN = ("InceptionV3", "ResNet50")
# The words of a claim that go with what a test says of a network.
KINDS = {HOLDS: "for", UNCONTRADICTED: "for", UNDECIDED: "undecided", REFUTED: "against"}
# Up to how many networks a sentence names one by one.
MOST_NAMED = 4


def sentence(claim: Claim, rows: pd.DataFrame) -> str:
    """The evidence for or against a claim; where nothing was run, why."""
    run = rows[rows.status != NOT_RUN].drop_duplicates(["network", "evidence"])
    if run.empty:
        return " ".join(rows.evidence[:1])
    kinds, said = run.status.map(KINDS if "any" not in claim.says else lambda _: "any"), []
    for kind in claim.says:
        if len(part := run[kinds == kind]):
            values = {"each": Numbers(part), "limit": number(part.threshold.iloc[0])}
            said.append(claim.says[kind].format(names=listed(list(bare(part.network))), **values))
    if silent := [name for name in OWN if name in set(bare(rows.network)) - set(bare(run.network))]:
        verb = "was" if len(silent) == 1 else "were"
        said.append(f"{listed(silent)} {verb} not read far enough to decide it.")
    return " ".join(said)


class Numbers:
    """Networks with their numbers and what is said of each, as in ``{each:+.1f px}``; of many networks the extremes and
    the paper's own."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self.rows = rows.assign(network=bare(rows.network))

    def __format__(self, form: str) -> str:
        rows = self.rows.assign(said=[_said(value, form) for value in self.rows.effect])
        if len(rows) > MOST_NAMED and rows.said.all():
            first, *others, last = rows.sort_values("effect", kind="stable").itertuples()
            own = "".join(f", {row.said} in {row.network}" for row in others if row.network in OWN)
            return (
                f"{first.said} ({first.network}) to {last.said} ({last.network}) in {len(rows)} networks{own}"
            )
        items = []
        for row in rows.itertuples():
            what = " in ".join(filter(None, (row.said, row.network)))
            items.append(f"{what} ({row.note})" if what and row.note else what or row.note)
        return listed(items)


def bare(networks: pd.Series) -> pd.Series:
    """Networks' names without what is said of their weights."""
    return networks.str.split(r", | \(", regex=True).str[0]


def listed(names: Sequence[str]) -> str:
    """Names in a sentence."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _said(value: float, form: str) -> str:
    digits, _, unit = form.partition(" ")
    text = f"{value:{digits}}".replace("%", " %").replace("-", "−") if digits else number(value)
    return "" if math.isnan(value) else f"{text} {unit}".strip()
