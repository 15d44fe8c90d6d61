"""``scalelib fetch``: states size and licence, asks before much is downloaded, fetches, reports."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalebook.profiles import load_profile
from scalelib.datasets.sources import (
    SOURCES,
    Source,
    data_root,
    fetch,
    find_source,
    find_weights,
    has_digest,
    remote_megabytes,
    store_of,
)
from scalelib.errors import DataError, NetworkError, ScalelibError, WeightsError, did_you_mean

KERAS_PAGE = "https://keras.io/api/applications/"
KERAS_LICENCE = "Apache 2.0, as keras.applications distributes them"
# Published by Keras without a digest; this one is known from the file itself.
KNOWN_DIGESTS = {"mobilenet_2_5_224_tf_no_top.h5": "md5:f313cee49f5d33dfb06f2b255c4adb64"}

Root = str | os.PathLike[str] | None


@dataclass(frozen=True)
class Need:
    """One thing that is needed.

    Parameters
    ----------
    name : str
        What it is called in a profile.
    path : pathlib.Path or None
        Where it lies; None if it is missing.
    source : Source or None
        Where it comes from; None if there is no address.
    hint : str
        How to get it: a command, or what to do by hand.
    """

    name: str
    path: Path | None
    source: Source | None
    hint: str


def source_need(name: str, *, root: Root = None) -> Need:
    """A source by name; see :func:`scalelib.datasets.sources.find_source`.

    Examples
    --------
    >>> source_need("squeezenet", root="nowhere").hint
    'scalelib fetch squeezenet'
    """
    source = find_source(name)
    store = store_of(source, root=root)
    hint = f"scalelib fetch {source.name}"
    if source.url is None:
        hint = f"ask for it at {source.page} and put it at {store / source.target}"
    return Need(source.name, store / source.target if source.is_present(store) else None, source, hint)


def weights_need(
    name: str, *, root: Root = None, file: str | None = None, include_top: bool = True, **options: Any
) -> Need:
    """The ImageNet weights of a network.

    Parameters
    ----------
    name : str
        A name in ``keras.applications``, or ``"SqueezeNet"``.
    root : path-like, optional
        The data root.
    file : str, optional
        Bare name of a weight file that is handed over, not downloaded.
    include_top : bool, default=True
        With the classification layers.
    **options
        Such as ``alpha``; see :func:`scalelib.networks.imagenet_file`.

    Returns
    -------
    Need

    Raises
    ------
    NetworkError
        If there is no such network; near matches are named.
    WeightsError
        If nobody published weights for these options.
    """
    if file:
        path = _find(file, root)
        return Need(
            f"{name} ({file})", path, None, f"put the file {file} into {data_root(root) / 'weights'} by hand"
        )
    if name.lower() == "squeezenet":
        return source_need("squeezenet", root=root)
    from scalelib.networks import application_names, imagenet_file

    if name not in application_names():
        known = [*application_names(), "SqueezeNet"]
        raise NetworkError(
            f"fetch: no network {name!r}.\nReceived: {name!r}.\n"
            f"{did_you_mean(name, known) or 'Networks are ' + ', '.join(known) + '.'}"
        )
    wanted = imagenet_file(name, include_top=include_top, **options)
    flags = "".join(f" --{key} {value}" for key, value in options.items())
    flags += "" if include_top else " --no-top"
    source = Source(
        name=wanted.filename.removesuffix(".h5"),
        title=f"ImageNet weights of {name}{flags.replace(' --', ', ')}",
        url=wanted.url,
        checksum=wanted.digest or KNOWN_DIGESTS.get(wanted.filename),
        megabytes=None,
        licence=KERAS_LICENCE,
        target=f"models/{wanted.filename}",
        page=KERAS_PAGE,
        store="keras",
    )
    path = _find(wanted.filename, root)
    if path is not None and not has_digest(path, source.checksum):
        path = None
    return Need(source.name, path, source, f"scalelib fetch --weights {name}{flags}")


def needs_of_profile(profile: str | os.PathLike[str], *, root: Root = None) -> list[Need]:
    """Everything that a profile needs beforehand, so that its run needs no network.

    Parameters
    ----------
    profile : str or path-like
        See :func:`scalebook.profiles.load_profile`.
    root : path-like, optional
        The data root.

    Returns
    -------
    list of Need
        Data sets, then weights, then the names of the ImageNet classes if there are weights.
    """
    wanted = load_profile(profile)
    needs = [source_need(name, root=root) for name in wanted.datasets]
    for entry in wanted.weights:
        options = {} if entry.alpha is None else {"alpha": entry.alpha}
        needs.append(
            weights_need(entry.name, root=root, file=entry.file, include_top=entry.include_top, **options)
        )
    return [*needs, source_need("imagenet-classes", root=root)] if wanted.weights else needs


def _find(filename: str, root: Root) -> Path | None:
    try:
        return find_weights(filename, root=root)
    except WeightsError:
        return None


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
