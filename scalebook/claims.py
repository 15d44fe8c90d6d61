"""The paper's claims as data, the statuses that one can have, and the record that keeps every threshold as it was
written down. Knows no results."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from scalelib.errors import ResultsError, require
from scalelib.results import digest_bytes


@dataclass(frozen=True)
class Status:
    """How a status is shown: a symbol, a colour of Okabe and Ito's (words do not depend on it), and what it means."""

    symbol: str
    colour: str
    meaning: str


STATUSES = {
    "holds": Status("✔", "#0072b2", "shown in every network that it was put to"),
    "not contradicted": Status(
        "○", "#56b4e9", "nothing speaks against it, by a test that could only have failed"
    ),
    "partly": Status("◐", "#e69f00", "in some networks, and not in others"),
    "does not hold": Status("✘", "#d55e00", "in no network, and at least one speaks against it"),
    "undecided": Status("?", "#cc79a7", "the intervals decide nothing"),
    "not run": Status("–", "#8a8a8a", "the data or weights that would decide it were not there"),
}
HOLDS, UNCONTRADICTED, PARTLY, REFUTED, UNDECIDED, NOT_RUN = STATUSES
# Section of the claims that are ours: shown beside the paper's, counted with none of them.
BEYOND = "beyond the paper"
KEYS = {"id", "section", "question", "claim", "where", "networks", "test", "paper", "refuted", "says"}


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, in our words, and what decides it: a predicate of `scalebook.predicates` with its
    arguments, put to the networks with ImageNet or random weights, or to none, in a notebook's table."""

    id: str
    section: str
    question: str
    claim: str
    refuted: str
    networks: str
    paper: str
    says: dict[str, str]
    predicate: str
    arguments: dict[str, Any]
    notebook: str
    table: str
    # The table whose line on the notebook's page stands below the evidence, where it is not the deciding one.
    shown: str = ""


def load_claims(path: str | os.PathLike[str]) -> list[Claim]:
    """Read ``claims.yaml``; an entry with other keys, or an id that stands twice, is refused."""
    claims: list[Claim] = []
    for entry in yaml.safe_load(Path(path).read_text(encoding="utf-8")):
        name, wrong = entry.get("id", "a claim without id"), ", ".join(sorted(set(entry) ^ KEYS))
        received = f"{name!r}, which differs in {wrong}"
        _require(not wrong, f"every claim has the keys {', '.join(sorted(KEYS))}", received)
        new = name not in {claim.id for claim in claims}
        _require(new, "every claim has an id of its own", f"{name!r} twice")
        arguments = dict(entry["test"])
        words = {key: value for key, value in entry.items() if key not in ("where", "test")}
        predicate = arguments.pop("predicate")
        claims.append(Claim(**words, **entry["where"], predicate=predicate, arguments=arguments))
    return claims


def threshold_digest(claim: Claim) -> str:
    """Digest of what decides a claim; its wording and the place of its table do not change it."""
    test = {"networks": claim.networks, "predicate": claim.predicate, "arguments": claim.arguments}
    return digest_bytes([json.dumps(test, sort_keys=True).encode()])


def check_thresholds(claims: Iterable[Claim], record: str | os.PathLike[str]) -> None:
    """Refuse claims whose test is not the one in ``thresholds.sha256``, which was written down before the runs."""
    lines = Path(record).read_text(encoding="utf-8").splitlines()
    written = {name: digest for digest, name in map(str.split, filter(None, lines))}
    now = {claim.id: threshold_digest(claim) for claim in claims}
    changed = ", ".join(name for name in now if written.get(name, now[name]) != now[name])
    rule = "a claim's test stays as it was written down before the run that decides it"
    received = f"another threshold, predicate or choice of networks for {changed}"
    _require(not changed, rule, received, "Restore paper/claims.yaml from version control.")
    alone = ", ".join(sorted(set(now) ^ set(written)))
    advice = "A claim is added with its line, before the run that decides it, and never taken away."
    rule, received = f"every claim has one line in {Path(record).name}", f"a claim or a line alone: {alone}"
    _require(not alone, rule, received, advice)


def overall(statuses: Iterable[str]) -> str:
    """One status for a claim from those of its networks, as `STATUSES` words it; what was not run does not count."""
    found = set(statuses) - {NOT_RUN}
    if good := found & {HOLDS, UNCONTRADICTED}:
        return PARTLY if found != good else UNCONTRADICTED if UNCONTRADICTED in good else HOLDS
    return REFUTED if REFUTED in found else UNDECIDED if found else NOT_RUN


def _require(ok: bool, rule: str, received: str, advice: str = "") -> None:
    require(ok, "claims", rule, received, advice, error=ResultsError)
