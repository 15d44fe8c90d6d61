"""The paper's claims as data, and the record that keeps their thresholds as they were written down. The status that the results of a profile give each claim. Reads results folders through their cards."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from scalebook.predicates import (
    HOLDS,
    INPUTS,
    LAYERWISE,
    NOT_RUN,
    PARTLY,
    REFUTED,
    TRANSFER,
    UNDECIDED,
    Evidence,
    MissingRows,
    Verdict,
)
from scalelib.errors import ResultsError, did_you_mean
from scalelib.results import CARD, Results, digest_bytes, read_results

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
        A name in :data:`scalebook.claims.PREDICATES`.
    arguments : dict
        Its thresholds and choices.
    paper : dict
        The published values behind it.
    shown : str, default=""
        Table whose line on the notebook's page stands below the evidence; empty for the deciding table itself.
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
    shown: str = ""


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
                shown=entry["where"].get("shown", ""),
            )
        )
    ids = [claim.id for claim in claims]
    if len(set(ids)) < len(ids):
        twice = sorted({name for name in ids if ids.count(name) > 1})
        raise ResultsError(
            f"load_claims: every claim has an id of its own.\nReceived twice: {', '.join(twice)}."
        )
    return claims


def threshold_digest(claim: Claim) -> str:
    """Digest of what decides a claim: its networks, its test and the test's arguments.

    Parameters
    ----------
    claim : Claim

    Returns
    -------
    str
        SHA-256; wording and the place of the table do not change it.
    """
    test = {"networks": claim.networks, "predicate": claim.predicate, "arguments": claim.arguments}
    return digest_bytes([json.dumps(test, sort_keys=True).encode()])


def check_thresholds(claims: list[Claim], record: str | os.PathLike[str]) -> None:
    """Refuse claims whose test is not the one that was written down before the runs.

    Parameters
    ----------
    claims : list of Claim
    record : path-like
        ``thresholds.sha256``: one line per claim, digest and id.

    Raises
    ------
    ResultsError
        If a claim's test changed, or a claim was added or taken away; the message names the claims.
    """
    lines = Path(record).read_text(encoding="utf-8").split("\n")
    written = {name: digest for digest, name in (line.split() for line in lines if line)}
    now = {claim.id: threshold_digest(claim) for claim in claims}
    if changed := [name for name in now if name in written and written[name] != now[name]]:
        raise ResultsError(
            f"check_thresholds: a claim's test stays as it was written down before the run that decides it.\n"
            f"Received: another threshold, predicate or choice of networks for {', '.join(changed)}.\n"
            "Restore paper/claims.yaml from version control."
        )
    if moved := sorted(set(now) ^ set(written)):
        raise ResultsError(
            f"check_thresholds: every claim has one line in {Path(record).name}.\n"
            f"Received: a claim or a line alone: {', '.join(moved)}.\n"
            "A claim is added with its line, before the run that decides it, and never taken away."
        )


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
