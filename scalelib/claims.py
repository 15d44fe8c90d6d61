"""The paper's claims as data, and the status that the results of a profile give each of them.

Reads ``paper/claims.yaml`` and results folders; what a claim's test means stands in :mod:`scalelib.predicates`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from scalelib.errors import ResultsError, did_you_mean
from scalelib.predicates import HOLDS, PREDICATES, REFUTED, UNDECIDED, Evidence, Verdict
from scalelib.provenance import CARD, Results, read_results

NOT_RUN, PARTLY = "not run", "partly"
STATUSES = (HOLDS, PARTLY, REFUTED, UNDECIDED, NOT_RUN)
_KEYS = {"id", "section", "claim", "where", "networks", "test", "paper", "refuted"}


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, in our words, and what decides it.

    Parameters
    ----------
    id, section, claim, refuted : str
    notebook, table : str
        Where the deciding numbers stand.
    networks : {"imagenet", "random", "none"}
        Which of the networks in the table the test is put to.
    predicate : str
        A name in :data:`scalelib.predicates.PREDICATES`.
    arguments : dict
        Its thresholds and choices.
    paper : dict
        The published values behind it.
    """

    id: str
    section: str
    claim: str
    refuted: str
    notebook: str
    table: str
    networks: str
    predicate: str
    arguments: dict[str, Any]
    paper: dict[str, Any]


def load_claims(path: str | os.PathLike[str]) -> list[Claim]:
    """Read and check the claims.

    Parameters
    ----------
    path : path-like
        ``claims.yaml``: a list of entries with the keys id, section, claim, where, networks, test, paper, refuted.

    Returns
    -------
    list of Claim

    Raises
    ------
    ResultsError
        If an entry lacks a key, has an unknown one, or an id stands twice.
    """
    entries = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    claims = []
    for entry in entries:
        if set(entry) != _KEYS:
            wrong = sorted(set(entry) ^ _KEYS)
            raise ResultsError(
                f"load_claims: every claim has the keys {', '.join(sorted(_KEYS))}.\n"
                f"Received: {entry.get('id', 'a claim without id')!r}, which differs in {', '.join(wrong)}."
            )
        test = dict(entry["test"])
        claims.append(
            Claim(
                id=entry["id"],
                section=str(entry["section"]),
                claim=entry["claim"],
                refuted=entry["refuted"],
                notebook=entry["where"]["notebook"],
                table=entry["where"]["table"],
                networks=entry["networks"],
                predicate=test.pop("predicate"),
                arguments=test,
                paper=dict(entry["paper"]),
            )
        )
    ids = [claim.id for claim in claims]
    if len(set(ids)) < len(ids):
        twice = sorted({name for name in ids if ids.count(name) > 1})
        raise ResultsError(
            f"load_claims: every claim has an id of its own.\nReceived twice: {', '.join(twice)}."
        )
    return claims


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
        One row per network: ``claim, section, network, status, evidence, effect, low, high``; a single row with status
        ``"not run"`` where the deciding table is not there.

    Raises
    ------
    ResultsError
        If the results differ from their card, or the claim names an unknown test.
    """
    results = Path(folder) / claim.notebook
    if not (results / CARD).is_file():
        return _rows(claim, {"": Verdict(NOT_RUN, f"{claim.notebook} has not been run with this profile.")})
    if claim.predicate not in PREDICATES:
        raise ResultsError(
            f"judge: no test {claim.predicate!r} for claim {claim.id!r}.\n"
            f"{did_you_mean(claim.predicate, PREDICATES)} Tests are {', '.join(PREDICATES)}."
        )
    checked = read_results(results)
    table = checked.table(claim.table)
    others = _other_tables(checked, claim.table)
    test = PREDICATES[claim.predicate]
    wanted = table.weights == (trained if claim.networks == "imagenet" else claim.networks)
    networks = list(dict.fromkeys(table.network[wanted]))
    if not networks:
        return _rows(
            claim, {"": Verdict(NOT_RUN, f"No network with {claim.networks} weights in these results.")}
        )
    verdicts = {
        network: test(
            Evidence(trained, table[table.network == network], _of_network(others, network)),
            **claim.arguments,
        )
        for network in networks
    }
    return _rows(claim, verdicts)


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


def _other_tables(results: Results, table: str) -> dict[str, pd.DataFrame]:
    names = [name for name in results.card.data["tables"] if name != table]
    return {name.split(".")[0]: results.table(name) for name in names}


def _of_network(tables: Mapping[str, pd.DataFrame], network: str) -> dict[str, pd.DataFrame]:
    return {name: table[table.network == network] for name, table in tables.items() if "network" in table}


def _rows(claim: Claim, verdicts: Mapping[str, Verdict]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "claim": claim.id,
                "section": claim.section,
                "network": network,
                "status": verdict.status,
                "evidence": verdict.evidence,
                "effect": verdict.effect,
                "low": verdict.low,
                "high": verdict.high,
            }
            for network, verdict in verdicts.items()
        ]
    )
