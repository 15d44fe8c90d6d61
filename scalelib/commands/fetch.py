"""``scalelib fetch``: states size and licence, asks before much is downloaded, fetches, reports.

Decides what is wanted; how it arrives is :mod:`scalelib.datasets.download`'s.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable

from scalelib.datasets.download import fetch, store_of
from scalelib.datasets.sources import SOURCES, Source
from scalelib.datasets.transport import remote_megabytes
from scalelib.errors import DataError, ScalelibError
from scalelib.needs import Need, needs_of_profile, source_need, weights_need

LARGE_MB = 100
EXAMPLES = """\
examples:
  scalelib fetch --profile paper                 all that the paper profile needs
  scalelib fetch voc2007-test squeezenet         two sources by name
  scalelib fetch --weights InceptionV3 ResNet50  Keras's ImageNet weights, into KERAS_HOME
  scalelib fetch --list                          every source, with size and licence

Data go to --data-root, else SCALELIB_DATA, else the user's cache folder.
An interrupted download goes on where it stopped when the command is given again."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.epilog = EXAMPLES
    parser.add_argument("names", nargs="*", metavar="SOURCE", help=", ".join(SOURCES))
    parser.add_argument("--weights", nargs="+", metavar="NETWORK", default=[], help="networks of Keras")
    parser.add_argument("--alpha", type=float, help="width multiplier of the MobileNets in --weights")
    parser.add_argument("--no-top", action="store_true", help="--weights without the classification layers")
    parser.add_argument("--profile", help="a name in profiles/, or a YAML file")
    parser.add_argument("--data-root", metavar="FOLDER", help="where data sets and weights/ lie")
    parser.add_argument("--yes", action="store_true", help=f"do not ask before more than {LARGE_MB} MB")
    parser.add_argument("--list", action="store_true", help="show all sources and stop")


def run(options: argparse.Namespace) -> int:
    """Fetch what is wanted and is not there yet."""
    if options.list:
        every = [source_need(name, root=options.data_root) for name in SOURCES]
        _show(every, {name: source.megabytes for name, source in SOURCES.items()}, options.data_root)
        return 0
    needs = list(_wanted(options))
    if not needs:
        raise DataError(
            "fetch: say what to fetch.\nReceived: no source, no --weights, no --profile.\n"
            "'scalelib fetch --list' shows all sources; 'scalelib doctor' shows what is missing."
        )
    sizes = _sizes(needs)
    _show(needs, sizes, options.data_root)
    missing = [need.source for need in needs if need.source and not need.path]
    by_hand = [need for need in needs if not need.path and (need.source is None or need.source.url is None)]
    to_fetch = [source for source in missing if source.url]
    _confirm(to_fetch, sizes, yes=options.yes)
    failed = sum(not _fetch_one(source, options.data_root) for source in to_fetch)
    for need in by_hand:
        print(f"\n{need.name} is missing: {need.hint}", file=sys.stderr)
    if not missing and not by_hand:
        print("Everything is here.")
    if failed:
        print(
            f"\nfetch: {failed} of {len(to_fetch)} did not arrive; the reasons stand above.", file=sys.stderr
        )
        return 2
    return 1 if by_hand else 0


def _wanted(options: argparse.Namespace) -> Iterable[Need]:
    seen = set()
    needs = [source_need(name, root=options.data_root) for name in options.names]
    chosen = {} if options.alpha is None else {"alpha": options.alpha}
    needs += [
        weights_need(name, root=options.data_root, include_top=not options.no_top, **chosen)
        for name in options.weights
    ]
    if options.profile:
        needs += needs_of_profile(options.profile, root=options.data_root)
    for need in needs:
        if need.name not in seen:
            seen.add(need.name)
            yield need


def _sizes(needs: Iterable[Need]) -> dict[str, int | None]:
    """Megabytes of each source as published, else as its server states them."""
    sizes: dict[str, int | None] = {}
    for need in needs:
        if need.source:
            asked = need.source.url if not need.path else None
            sizes[need.name] = need.source.megabytes or (remote_megabytes(asked) if asked else None)
    return sizes


def _show(needs: list[Need], sizes: dict[str, int | None], root: str | None) -> None:
    for need in needs:
        source, size = need.source, sizes.get(need.name)
        print(f"{need.name}: {source.title}" if source else need.name)
        if source is None:
            print(f"    here, {need.path}" if need.path else f"    missing: {need.hint}")
            continue
        state = "here" if need.path else "to fetch" if source.url else "by hand"
        known = f"{size:,} MB" if size else "size not published"
        print(f"    {state}, {need.path or store_of(source, root=root) / source.target}")
        print(f"    {known} · {source.licence}")


def _confirm(sources: list[Source], sizes: dict[str, int | None], *, yes: bool) -> None:
    unknown = [source.name for source in sources if sizes[source.name] is None]
    total = sum(sizes[source.name] or 0 for source in sources)
    if yes or (total <= LARGE_MB and not unknown):
        return
    question = f"About {total:,} MB are to be downloaded" if total else "Something is to be downloaded"
    if unknown:
        question += f" (the size of {', '.join(unknown)} is not known)"
    question += ", under the terms stated above."
    if not sys.stdin.isatty():
        raise DataError(
            f"fetch: a download of more than {LARGE_MB} MB, or of unknown size, wants a yes.\n"
            f"Received: {question} Nobody is at the terminal to ask.\n"
            "Nothing was downloaded. Add --yes if that is what you want."
        )
    if input(f"\n{question} Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise DataError("fetch: not downloaded.\nReceived: no yes.\nNothing was changed.")


def _fetch_one(source: Source, root: str | None) -> bool:
    try:
        fetched = fetch(source, root=root)
    except ScalelibError as error:
        print(f"\n{error}", file=sys.stderr)
        return False
    print(f"{source.name}: now in {fetched.path} (sha256 {fetched.sha256[:16]}…)", flush=True)
    return True
