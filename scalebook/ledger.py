"""The paper's numbers and claims beside ours: every claim judged, every cell compared. Reads ``paper/`` and the results
folders of profiles through their cards; knows neither networks nor images."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from scalebook.claims import BEYOND, NOT_RUN, STATUSES, Claim, check_thresholds, load_claims, overall
from scalebook.paper_tables import COLUMNS, a1_cells, figure_cells, table1_cells, table2_cells
from scalebook.predicates import PREDICATES, Evidence, MissingRows, Verdict
from scalebook.sentences import OWN, bare, sentence
from scalelib.errors import ResultsError, did_you_mean, require
from scalelib.results import CARD, Results, read_results

PROFILES = ("paper", "compact", "control")
# Profiles on photographs and tissue; the control profile's scenes are rendered.
REAL = ("paper", "compact")
# Label of the trained weights where it is not ``imagenet``.
TRAINED = {"control": "all scales"}


# What a key figure reads its tables with, such as ``read("compact/04_layerwise_r2/curves")``.
Read = Callable[[str], pd.DataFrame]


@cache
def run_of(root: Path, place: str) -> Results:
    """The results of one run, each file as its card says, by ``profile/notebook``."""
    return read_results(root / "results" / place)


def table_of(root: Path, table: str) -> pd.DataFrame:
    """A table by ``profile/notebook/table``."""
    place, _, name = table.rpartition("/")
    return run_of(root, place).table(name)


class Tables(dict[tuple[str, str, str], pd.DataFrame | None]):
    """Tables by profile, notebook and file name, each read when it is first wanted; None where none was written."""

    def __init__(self, runs: Mapping[tuple[str, str], Results]) -> None:
        self.runs = runs

    def __missing__(self, key: tuple[str, str, str]) -> pd.DataFrame | None:
        profile, notebook, name = key
        run, stem = self.runs.get((profile, notebook)), name.split(".")[0]
        written = run is not None and stem in {file.split(".")[0] for file in run.card.data["tables"]}
        self[key] = run.table(stem) if run and written else None
        return self[key]


@dataclass(frozen=True)
class Ledger:
    """The paper beside our results: one row of ``verdicts`` per claim, profile and network, one row of ``cells`` per cell
    of the paper's tables, and the card of each results folder that was read."""

    claims: list[Claim]
    verdicts: pd.DataFrame
    cells: pd.DataFrame
    cards: dict[str, Mapping[str, Any]]


def build_ledger(
    paper: str | os.PathLike[str], results: str | os.PathLike[str], *, profiles: Sequence[str] = PROFILES
) -> Ledger:
    """Judge every claim and compare every cell, from the profiles in the order in which they take precedence for a cell.

    A results file that differs from its card, or a threshold that differs from the record, is refused by name.
    """
    paper = Path(paper)
    rule, received = "the paper's tables and claims are needed", f"no claims.yaml in {paper}"
    advice = "Run it in the repository, or name the folder with --paper."
    require((paper / "claims.yaml").is_file(), "ledger", rule, received, advice, error=ResultsError)
    claims = load_claims(paper / "claims.yaml")
    check_thresholds(claims, paper / "thresholds.sha256")
    runs = {
        (profile, card.parent.name): read_results(card.parent)
        for profile in profiles
        for card in sorted(Path(results, profile).glob(f"*/{CARD}"))
    }
    tables = Tables(runs)
    verdicts = pd.DataFrame(
        {"claim": claim.id, "section": claim.section, "network": name, **asdict(found), "profile": profile}
        for profile in profiles
        for claim in claims
        for name, found in judge(claim, tables, profile)
    )
    cells = _cells(paper, tables, [profile for profile in profiles if profile in REAL])
    return Ledger(claims, verdicts, cells, {"/".join(key): run.card.data for key, run in runs.items()})


def judge(claim: Claim, tables: Tables, profile: str) -> Iterator[tuple[str, Verdict]]:
    """The verdict on a claim for each network of a profile; for no network where nothing was run."""
    hint = did_you_mean(claim.predicate, PREDICATES)
    known = f"{hint} Tests are {', '.join(PREDICATES)}.".strip()
    rule, received = "a claim names a test of scalebook.predicates", f"{claim.predicate!r} for {claim.id!r}"
    require(claim.predicate in PREDICATES, "judge", rule, received, known, error=ResultsError)
    table, trained = tables[profile, claim.notebook, claim.table], TRAINED.get(profile, "imagenet")
    if table is None:
        why = f"wrote no {claim.table}" if (profile, claim.notebook) in tables.runs else "has not been run"
        yield "", Verdict(NOT_RUN, f"{claim.notebook} {why} with this profile.")
        return
    networks, begins = {"": trained}, trained if claim.networks == "imagenet" else claim.networks
    if claim.networks != "none":  # behind the weights' label stands what they are
        labels = table.assign(weights=table.get("weights", begins))[["network", "weights"]]
        pairs = labels.drop_duplicates().astype(str).itertuples(index=False)
        networks = {network: weights for network, weights in pairs if weights.startswith(begins)}
    if not networks:
        yield "", Verdict(NOT_RUN, f"No network with {claim.networks} weights in these results.")
    beside = {name: tables[profile, claim.notebook, name] for name in ("equal_width", "runs")}
    for network, weights in networks.items():
        name = network and network + weights.removeprefix(begins)  # with what the weights are
        further = {key: _of(part, network) for key, part in beside.items() if part is not None}
        evidence = Evidence(weights, _of(table, network), further, network=network, everything=table)
        try:
            yield name, PREDICATES[claim.predicate](evidence, **claim.arguments)
        except MissingRows as missing:
            yield name, Verdict(NOT_RUN, str(missing))


def _of(table: pd.DataFrame, network: str) -> pd.DataFrame:
    return table[table.network == network] if network and "network" in table else table


def _cells(paper: Path, tables: Tables, profiles: Sequence[str]) -> pd.DataFrame:
    """Each cell from the first profile that has something to compare it with."""
    compared = []
    for profile in [*profiles, ""]:  # the last one has run nothing
        layerwise = tables[profile, "04_layerwise_r2", "layerwise_r2"]
        parts = [
            table1_cells(paper / "table1.csv", tables[profile, "01_datasets", "table1"]),
            table2_cells(paper / "table2.csv", tables[profile, "05_histopathology_transfer", "transfer"]),
            a1_cells(paper / "table_a1.csv", layerwise),
            figure_cells(paper / "figure_labels.csv", layerwise),
        ]
        compared.append(pd.concat(parts, ignore_index=True).assign(profile=profile))
    every = pd.concat(compared)
    every = every[(every.status != NOT_RUN) | (every.profile == "")]
    return every[~every.index.duplicated()].sort_index()[[*COLUMNS, "profile"]]


def headline(ledger: Ledger) -> pd.Series:
    """One status per claim: from the networks of all real-data profiles; from any profile where it is about no network.

    A ledger without a real-data profile counts what it has; :func:`basis` says which.
    """
    return pd.Series(
        {claim.id: overall(deciding(ledger, claim).status) for claim in ledger.claims}, dtype=str
    )


def deciding(ledger: Ledger, claim: Claim) -> pd.DataFrame:
    """The verdicts on which the headline's status of a claim rests."""
    rows = ledger.verdicts
    return rows[(rows.claim == claim.id) & (rows.profile.isin(_counted(ledger)) | (claim.networks == "none"))]


def on_own_networks(ledger: Ledger) -> pd.DataFrame:
    """The verdicts on the paper's claims that were reached on its own networks with trained weights."""
    ids = [claim.id for claim in ledger.claims if claim.section != BEYOND and claim.networks == "imagenet"]
    rows = ledger.verdicts[ledger.verdicts.profile.isin(REAL) & ledger.verdicts.claim.isin(ids)]
    return rows[(rows.status != NOT_RUN) & bare(rows.network).isin(OWN)]


def counts(ledger: Ledger) -> dict[str, int]:
    """How many of the paper's own claims have which status."""
    found = headline(ledger)[[claim.id for claim in ledger.claims if claim.section != BEYOND]]
    return {status: int((found == status).sum()) for status in STATUSES}


def basis(ledger: Ledger) -> str:
    """On what the statuses of :func:`headline` rest, as words for a sentence."""
    return "on real data" if set(_counted(ledger)) <= set(REAL) else "in the rendered control experiment"


def _counted(ledger: Ledger) -> list[str]:
    given = list(ledger.verdicts.profile.unique())
    return [profile for profile in given if profile in REAL] or given


def as_data(ledger: Ledger) -> dict[str, Any]:
    """The ledger as plain JSON data: counts and their basis, claims with all verdicts, cells, and the cards' identity."""
    status, claims = headline(ledger), []
    for claim in ledger.claims:
        rows, known = ledger.verdicts[ledger.verdicts.claim == claim.id], ["claim", "section", "profile"]
        by_profile = {
            str(profile): {"status": overall(mine.status), "networks": _records(mine.drop(columns=known))}
            for profile, mine in rows.groupby("profile", sort=False)
        }
        said = {"status": status[claim.id], "evidence": sentence(claim, deciding(ledger, claim))}
        claims.append(asdict(claim) | said | {"profiles": by_profile})
    by_table = ledger.cells.groupby("table", sort=False).status
    cells = {str(table): found.value_counts().to_dict() for table, found in by_table}
    wanted = ("name", "profile", "date", "code", "wall_time_s")
    return {
        "basis": basis(ledger),
        "counts": {"claims": counts(ledger), "cells": cells},
        "claims": claims,
        "cells": _records(ledger.cells),
        "results": {name: {key: card[key] for key in wanted} for name, card in ledger.cards.items()},
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return json.loads(table.to_json(orient="records", double_precision=6))
