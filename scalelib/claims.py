"""The paper's claims as data, and the record that keeps their thresholds as they were written down.

Reads ``paper/claims.yaml``; knows no results.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from scalelib.errors import ResultsError
from scalelib.provenance import digest_bytes

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
        A name in :data:`scalelib.judging.PREDICATES`.
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
