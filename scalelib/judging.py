"""The status that the results of a profile give each claim. Reads results folders through their cards.

What a claim's test means stands in :mod:`scalelib.predicates` and its neighbours.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from scalelib.claims import Claim
from scalelib.errors import ResultsError, did_you_mean
from scalelib.predicates import LAYERWISE
from scalelib.predicates_inputs import INPUTS
from scalelib.predicates_transfer import TRANSFER
from scalelib.provenance import CARD, Results, read_results
from scalelib.verdicts import HOLDS, NOT_RUN, PARTLY, REFUTED, UNDECIDED, Evidence, MissingRows, Verdict

PREDICATES = LAYERWISE | INPUTS | TRANSFER
"""Every test that a claim can name."""
_ALSO_READ = ("equal_width",)
"""Tables that a test reads beside the one that its claim names."""


def judge(claim: Claim, folder: str | os.PathLike[str], *, trained: str = "imagenet") -> pd.DataFrame:
    """Put a claim's test to every network of one profile's results.

    Parameters
    ----------
    claim : Claim
    folder : path-like
        ``results/<profile>``.
    trained : str, default="imagenet"
        Label of the trained weights in the tables.

    Returns
    -------
    pandas.DataFrame
        One row per network: ``claim, section, network, status, evidence, effect, low, high, quantity, threshold``; a
        single row with status ``"not run"`` where the deciding table is not there.

    Raises
    ------
    ResultsError
        If the results differ from their card, or the claim names an unknown test.
    """
    return judge_all([claim], folder, trained=trained)


def judge_all(
    claims: list[Claim], folder: str | os.PathLike[str], *, trained: str = "imagenet"
) -> pd.DataFrame:
    """As :func:`judge` for several claims, each table being read once."""
    for claim in claims:
        if claim.predicate not in PREDICATES:
            raise ResultsError(
                f"judge: no test {claim.predicate!r} for claim {claim.id!r}.\n"
                f"{did_you_mean(claim.predicate, PREDICATES)} Tests are {', '.join(PREDICATES)}."
            )
    parts = []
    read: dict[str, _Tables] = {}
    for claim in claims:
        results = Path(folder) / claim.notebook
        if not (results / CARD).is_file():
            parts.append(
                _rows(claim, {"": _not_run(f"{claim.notebook} has not been run with this profile.")})
            )
            continue
        if claim.notebook not in read:
            read[claim.notebook] = _Tables(read_results(results))
        parts.append(_rows(claim, _verdicts(claim, read[claim.notebook], trained)))
    return pd.concat(parts, ignore_index=True)


class _Tables(dict[str, pd.DataFrame]):
    """The tables of one results folder by file name without ending, each read when it is first wanted."""

    def __init__(self, results: Results) -> None:
        self.results = results

    def __missing__(self, name: str) -> pd.DataFrame:
        self[name] = self.results.table(name)
        return self[name]


def _verdicts(claim: Claim, tables: _Tables, trained: str) -> dict[str, Verdict]:
    known = {name.split(".")[0] for name in tables.results.card.data["tables"]}
    if claim.table.split(".")[0] not in known:
        return {"": _not_run(f"{claim.notebook} has written no {claim.table} with this profile.")}
    table = tables[claim.table.split(".")[0]]
    networks = [""]
    if claim.networks != "none":
        wanted = table
        if "weights" in table:
            wanted = table[table.weights == (trained if claim.networks == "imagenet" else claim.networks)]
        networks = list(dict.fromkeys(wanted.network))
        if not networks:
            return {"": _not_run(f"No network with {claim.networks} weights in these results.")}
    test = PREDICATES[claim.predicate]
    verdicts = {}
    for network in networks:
        evidence = Evidence(
            trained,
            _of_network(table, network),
            {name: _of_network(tables[name], network) for name in known & set(_ALSO_READ)},
            network=network,
            everything=table,
        )
        try:
            verdicts[network] = test(evidence, **claim.arguments)
        except MissingRows as missing:
            verdicts[network] = _not_run(str(missing))
    return verdicts


def overall(statuses: pd.Series) -> str:
    """One status for a claim from those of its networks.

    Parameters
    ----------
    statuses : pandas.Series of str
        Per network.

    Returns
    -------
    str
        ``reproduced`` if every network says so; ``partly`` if some do; ``not reproduced`` if none does and
        one refutes it; else ``inconclusive``; ``not run`` if nothing was run.

    Examples
    --------
    >>> overall(pd.Series(["reproduced", "inconclusive"])), overall(pd.Series(["inconclusive", "not reproduced"]))
    ('partly', 'not reproduced')
    """
    found = set(statuses) - {NOT_RUN}
    if not found:
        return NOT_RUN
    if HOLDS in found:
        return HOLDS if found == {HOLDS} else PARTLY
    return REFUTED if REFUTED in found else UNDECIDED


def _of_network(table: pd.DataFrame, network: str) -> pd.DataFrame:
    return table[table.network == network] if network and "network" in table else table


def _not_run(why: str) -> Verdict:
    return Verdict(NOT_RUN, why)


def _rows(claim: Claim, verdicts: Mapping[str, Verdict]) -> pd.DataFrame:
    labels = {"claim": claim.id, "section": claim.section}
    return pd.DataFrame(
        [{**labels, "network": network, **asdict(verdict)} for network, verdict in verdicts.items()]
    )
