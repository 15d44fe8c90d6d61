"""Show every claim of the paper with its status, in the terminal, as JSON, as CSV or as a badge.

example:
  scalelib ledger --json scoreboard.json

Every claim of the paper with its status on real data (with --profile control alone: in the rendered control
experiment) and the evidence in a sentence, then one line per network with the numbers behind it; every results file is
checked against its card and every threshold against the record of those written down beforehand.
Statuses: holds, not contradicted, partly, does not hold, undecided, not run.
"""

from __future__ import annotations

import argparse
import json
import shutil

from scalelib.results import write_atomic


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.description = __doc__
    parser.add_argument(
        "--profile", action="append", metavar="NAME", choices=("paper", "compact", "control"),
        help="paper, compact or control; may be given again (default: all three)",
    )  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON")
    parser.add_argument("--csv", metavar="FILE", help="write one row per claim, profile and network")
    parser.add_argument("--badge", metavar="FILE", help="write the counts of claims as a small SVG")
    parser.add_argument("--results", default="results", metavar="DIR", help="default: results")
    parser.add_argument("--paper", default="paper", metavar="DIR", help="default: paper")


def run(options: argparse.Namespace) -> int:
    """Judge, write, print."""
    from scalebook.ledger import PROFILES, as_data, build_ledger
    from scalebook.pages import badge_svg, render

    ledger = build_ledger(options.paper, options.results, profiles=options.profile or PROFILES)
    data = as_data(ledger)
    if options.json:
        text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_atomic(options.json, text.encode())
    if options.csv:
        text = ledger.verdicts.to_csv(index=False, float_format="%.6g", lineterminator="\n")
        write_atomic(options.csv, text.encode())
    if options.badge:
        write_atomic(options.badge, badge_svg(ledger).encode())
    # Last, so that a reader who stops reading, such as head, keeps no file from being written.
    print(render("ledger.txt", data=data, width=max(shutil.get_terminal_size().columns, 60)))
    return 0
