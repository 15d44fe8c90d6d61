"""The paper's numbers and claims beside ours: every cell and every claim with a computed status.

Reads ``paper/`` and the results folders of profiles through their cards; knows neither networks nor images.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from scalebook.claims import Claim, check_thresholds, judge_all, load_claims, overall
from scalebook.paper_tables import COLUMNS, a1_cells, figure_cells, table1_cells, table2_cells
from scalebook.predicates import NOT_RUN, STATUSES
from scalelib.errors import ResultsError
from scalelib.results import CARD, read_results

PROFILES = ("paper", "compact", "control")
REAL = ("paper", "compact")
"""Profiles on photographs and tissue; the control profile's scenes are rendered."""
TRAINED = {"control": "all scales"}
"""Label of the trained weights where it is not ``imagenet``."""


@dataclass(frozen=True)
class Ledger:
    """The paper beside our results.

    Parameters
    ----------
    claims : list of Claim
    verdicts : pandas.DataFrame
        One row per claim, profile and network: see :func:`scalebook.claims.judge`, with ``profile``.
    cells : pandas.DataFrame
        One row per cell of the paper's tables: see :data:`scalebook.paper_tables.COLUMNS`.
    cards : dict of str to dict
        Where our numbers come from: the card of each results folder that was read, by ``profile/notebook``.
    """

    claims: list[Claim]
    verdicts: pd.DataFrame
    cells: pd.DataFrame
    cards: dict[str, dict[str, Any]]


def build_ledger(
    paper: str | os.PathLike[str], results: str | os.PathLike[str], *, profiles: Sequence[str] = PROFILES
) -> Ledger:
    """Judge every claim and compare every cell.

    Parameters
    ----------
    paper : path-like
        Folder with ``claims.yaml``, ``thresholds.sha256`` and the tables.
    results : path-like
        Folder with one folder per profile; those that are not there count as not run.
    profiles : sequence of str, default=("paper", "compact", "control")
        In the order in which they take precedence for a cell. Cells are compared with real data only.

    Returns
    -------
    Ledger

    Raises
    ------
    ResultsError
        If a results file differs from its card, or a claim's threshold from the record; the message names it.
    """
    paper, results = Path(paper), Path(results)
    if not (paper / "claims.yaml").is_file():
        raise ResultsError(
            f"ledger: the paper's tables and claims are needed.\nReceived: no claims.yaml in {paper}.\n"
            "Run it in the repository, or name the folder with --paper."
        )
    claims = load_claims(paper / "claims.yaml")
    check_thresholds(claims, paper / "thresholds.sha256")
    verdicts = [
        judge_all(claims, results / profile, trained=TRAINED.get(profile, "imagenet")).assign(profile=profile)
        for profile in profiles
    ]
    cards = {
        f"{profile}/{card.parent.name}": dict(read_results(card.parent).card.data)
        for profile in profiles
        for card in sorted((results / profile).glob(f"*/{CARD}"))
    }
    real = [profile for profile in profiles if profile in REAL]
    return Ledger(claims, pd.concat(verdicts, ignore_index=True), _cells(paper, results, real), cards)


def headline(ledger: Ledger) -> pd.Series:
    """One status per claim: from the networks of all real-data profiles; from any profile where it is about no network.

    A ledger without a real-data profile counts what it has; :func:`basis` says which.

    Returns
    -------
    pandas.Series of str
        By claim id, in the order of ``claims.yaml``.
    """
    rows = ledger.verdicts
    about_none = {claim.id for claim in ledger.claims if claim.networks == "none"}
    counted = rows[rows.profile.isin(_profiles_counted(ledger)) | rows.claim.isin(about_none)]
    status = {claim.id: overall(counted.status[counted.claim == claim.id]) for claim in ledger.claims}
    return pd.Series(status, dtype=str)


def basis(ledger: Ledger) -> str:
    """On what the statuses of :func:`headline` rest, as words for a sentence.

    Returns
    -------
    {"on real data", "in the rendered control experiment"}
    """
    real = set(_profiles_counted(ledger)) <= set(REAL)
    return "on real data" if real else "in the rendered control experiment"


def _profiles_counted(ledger: Ledger) -> list[str]:
    given = list(ledger.verdicts.profile.unique())
    return [profile for profile in given if profile in REAL] or given


def as_data(ledger: Ledger) -> dict[str, Any]:
    """The ledger as plain JSON data: counts and their basis, claims with all verdicts, cells, and the cards' identity.

    Returns
    -------
    dict
    """
    status = headline(ledger)
    claims = []
    for claim in ledger.claims:
        mine = ledger.verdicts[ledger.verdicts.claim == claim.id]
        claims.append(
            {
                "id": claim.id,
                "section": claim.section,
                "claim": claim.claim,
                "status": status[claim.id],
                "decided_by": {"notebook": claim.notebook, "table": claim.table},
                "test": {"predicate": claim.predicate, "networks": claim.networks, **claim.arguments},
                "paper": claim.paper,
                "refuted": claim.refuted,
                "profiles": {
                    str(profile): {
                        "status": overall(rows.status),
                        "networks": _records(rows.drop(columns=["claim", "section", "profile"])),
                    }
                    for profile, rows in mine.groupby("profile", sort=False)
                },
            }
        )
    wanted = ("name", "profile", "date", "code", "wall_time_s")
    return {
        "basis": basis(ledger),
        "counts": {
            "claims": {name: int((status == name).sum()) for name in STATUSES},
            "cells": {
                str(table): {str(k): int(v) for k, v in part.status.value_counts().items()}
                for table, part in ledger.cells.groupby("table", sort=False)
            },
        },
        "claims": claims,
        "cells": _records(ledger.cells),
        "results": {name: {key: card[key] for key in wanted} for name, card in ledger.cards.items()},
    }


def _cells(paper: Path, results: Path, profiles: Sequence[str]) -> pd.DataFrame:
    """Each cell from the first profile that has something to compare it with."""
    compared = []
    for profile in [*profiles, ""]:  # the last one has run nothing
        layerwise = _table(results, profile, "04_layerwise_r2", "layerwise_r2")
        transfer = _table(results, profile, "05_histopathology_transfer", "transfer")
        parts = [
            table1_cells(paper / "table1.csv", _table(results, profile, "01_datasets", "table1")),
            table2_cells(paper / "table2.csv", transfer),
            a1_cells(paper / "table_a1.csv", layerwise),
            figure_cells(paper / "figure_labels.csv", layerwise),
        ]
        compared.append(pd.concat(parts, ignore_index=True).assign(profile=profile))
    every = pd.concat(compared, ignore_index=True)
    every.loc[every.status == NOT_RUN, "profile"] = ""
    ranked = every.assign(rank=(every.status == NOT_RUN).astype(int))
    keys = ["table", "network", "tap", "condition"]
    best = ranked.sort_values("rank", kind="stable").drop_duplicates(keys).sort_index()
    order = ranked.drop_duplicates(keys)[keys]
    return order.merge(best, on=keys)[[*COLUMNS, "profile"]]


def _table(results: Path, profile: str, notebook: str, name: str) -> pd.DataFrame | None:
    folder = results / profile / notebook
    if not profile or not (folder / CARD).is_file():
        return None
    found = read_results(folder)
    written = {file.split(".")[0] for file in found.card.data["tables"]}
    return found.table(name) if name in written else None


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return json.loads(table.to_json(orient="records", double_precision=6))
