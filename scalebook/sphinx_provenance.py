"""Sphinx directive of the page on provenance: what each executed notebook was made from, read off the cards at build.

``{provenance} summary`` counts; ``{provenance} compact | control | paper`` is a table with one row for each notebook that
the profile names, run or not. The build fails if a results file differs from its card. Knows cards and profiles only.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import download_reference, pending_xref
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from scalebook.profiles import Profile, load_profile
from scalebook.sphinx_book import EXECUTED, TIERS
from scalelib.errors import ScalelibError
from scalelib.results import CARD, read_results

HEADS = ("Notebook", "Run", "Code and machine", "Data", "Weights", "Files")
STATUS = {"control": "run at this build", "compact": "archived", "paper": "archived"}
NOT_RUN = "not run"
WITHOUT_PAGE = "results only, no page"
SEVERAL = 12
"""A data set with more classes than this is summed up by their number."""
FEW = 3
"""So many digests stand, shortened, in a closed row; more of them unfold."""


class Provenance(SphinxDirective):
    """One part of the page."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        part = self.arguments[0]
        if part not in ("summary", *TIERS):
            raise self.error(f"provenance: no part {part!r}; there are summary, {', '.join(TIERS)}.")
        root = Path(self.env.srcdir)
        try:
            if part == "summary":
                return [self._summary(root)]
            profile = load_profile(root / "profiles" / f"{part}.yaml")
            self.env.note_dependency(str(profile.path))
            runs = self._runs(root, profile)
        except ScalelibError as error:
            raise self.error(f"provenance: {error}") from error
        return [
            *_scrolling(self._table(profile, runs), f"{TIERS[part][0]}: what each notebook was made from"),
            *_needs(profile, runs),
        ]

    def _runs(self, root: Path, profile: Profile) -> dict[str, Mapping[str, Any] | None]:
        """The card of each notebook that the profile names or whose results are there; None where it was not run."""
        folder = root / "results" / profile.name
        written = {path.parent.name for path in folder.glob(f"*/{CARD}")}
        cards: dict[str, Mapping[str, Any] | None] = {}
        for name in sorted({*profile.notebooks, *written}):
            cards[name] = read_results(folder / name).card.data if name in written else None
            self.env.note_dependency(str(folder / name / CARD))
        return cards

    def _status(self, profile: str, name: str, card: Mapping[str, Any] | None) -> str:
        if card is None:
            return NOT_RUN
        in_book = f"{EXECUTED}{profile}/{name}" in self.env.found_docs
        return STATUS[profile] if in_book else WITHOUT_PAGE

    def _summary(self, root: Path) -> nodes.Node:
        counts: dict[str, int] = Counter()
        for tier in TIERS:
            profile = load_profile(root / "profiles" / f"{tier}.yaml")
            for name, card in self._runs(root, profile).items():
                counts[self._status(tier, name, card)] += 1
        words = ", ".join(
            f"{counts[status]} {status}"
            for status in dict.fromkeys([*STATUS.values(), WITHOUT_PAGE, NOT_RUN])
            if counts[status]
        )
        return nodes.paragraph(text=f"{sum(counts.values())} runs are named by the profiles: {words}.")

    def _table(self, profile: Profile, runs: Mapping[str, Mapping[str, Any] | None]) -> nodes.table:
        table = nodes.table(classes=["provenance"])
        group = nodes.tgroup(cols=len(HEADS))
        group += [nodes.colspec(colwidth=1, stub=int(i == 0)) for i in range(len(HEADS))]
        head = nodes.row()
        head += [nodes.entry("", nodes.paragraph(text=words)) for words in HEADS]
        body = nodes.tbody()
        for name, card in runs.items():
            row = nodes.row()
            row += [nodes.entry("", *cell) for cell in self._cells(profile.name, name, card)]
            body += row
        group += [nodes.thead("", head), body]
        table += group
        return table

    def _cells(self, profile: str, name: str, card: Mapping[str, Any] | None) -> list[list[nodes.Node]]:
        status = self._status(profile, name, card)
        first = [_paragraph(self._page(profile, name))]
        if card is None:
            return [first, [_paragraph(status)], *([_paragraph("–")] for _ in HEADS[2:])]
        networks, tables = card["networks"], card["tables"]
        files = [
            nodes.list_item("", _paragraph(self._download(profile, name, file), f", {about['rows']:,} rows"))
            for file, about in tables.items()
        ]
        return [
            first,
            [_paragraph(status), _paragraph(card["date"]), _paragraph(_seconds(card["wall_time_s"]))],
            [_paragraph(*self._commit(card["code"])), _paragraph(_machine(card["environment"]))],
            _folded(_data_words(card["datasets"]), map(_dataset, card["datasets"])),
            _folded(_weight_words(networks), map(_network, networks)),
            [_paragraph(self._download(profile, name, CARD)), *_folded(_count(len(tables), "table"), files)],
        ]  # fmt: skip

    def _page(self, profile: str, name: str) -> nodes.Node:
        docname = f"{EXECUTED}{profile}/{name}"
        if docname not in self.env.found_docs:
            return nodes.inline(text=name)
        target = {"refdomain": "std", "reftype": "doc", "refexplicit": True, "refwarn": True}
        text = nodes.inline(text=name)
        return pending_xref("", text, reftarget=f"/{docname}", refdoc=self.env.docname, **target)

    def _download(self, profile: str, name: str, file: str) -> nodes.Node:
        target = f"/results/{profile}/{name}/{file}"
        return download_reference("", "", nodes.literal(text=file), reftarget=target, refdoc=self.env.docname)

    def _commit(self, code: Mapping[str, Any]) -> list[nodes.Node | str]:
        if code["commit"] is None:
            return ["not under version control"]
        short: nodes.Node = nodes.literal(text=code["commit"][:12])
        if url := self.config.html_theme_options.get("repository_url"):
            short = nodes.reference("", "", short, refuri=f"{url}/commit/{code['commit']}", internal=False)
        return [short, ", with local changes"] if code["dirty"] else [short]


def _paragraph(*parts: nodes.Node | str) -> nodes.paragraph:
    return nodes.paragraph("", "", *(nodes.Text(part) if isinstance(part, str) else part for part in parts))


def _folded(summary: str, items: Iterable[nodes.Node]) -> list[nodes.Node]:
    """A list behind its summary, which opens without a script."""
    if not (items := list(items)):
        return [_paragraph(summary)]
    opening = nodes.raw("", f"<details><summary>{html.escape(summary)}</summary>", format="html")
    return [opening, nodes.bullet_list("", *items), nodes.raw("", "</details>", format="html")]


def _scrolling(table: nodes.table, label: str) -> list[nodes.Node]:
    """The table in a box that scrolls by keyboard too, so that the page need not."""
    box = f'<div class="provenance-scroll" tabindex="0" role="region" aria-label="{html.escape(label)}">'
    return [nodes.raw("", box, format="html"), table, nodes.raw("", "</div>", format="html")]


def _needs(profile: Profile, runs: Mapping[str, object]) -> list[nodes.Node]:
    if all(card is not None for card in runs.values()):
        return []
    missing = ", ".join(name for name, card in runs.items() if card is None)
    weights = [f"{need.name} {need.alpha:g}" if need.alpha else need.name for need in profile.weights]
    given = "; ".join(
        f"{kind}: {', '.join(names)}" for kind, names in (("data", profile.datasets), ("weights", weights)) if names
    )  # fmt: skip
    words = f" (for the whole profile {given})" if given else ""
    command = nodes.literal(text=f"make reproduce PROFILE={profile.name}")
    return [_paragraph(f"Not run: {missing}. That takes ", command, f"{words}.")]


def _data_words(datasets: list[Mapping[str, Any]]) -> str:
    images = sum(entry["images"] for entry in datasets)
    short = _short([entry["digest"] for entry in datasets])
    return f"{_count(len(datasets), 'data set')}, {images:,} images{short}" if datasets else "none"


def _weight_words(networks: list[Mapping[str, Any]]) -> str:
    short = _short([entry["weights_digest"] for entry in networks])
    return f"{_count(len(networks), 'network')}{short}" if networks else "none"


def _short(digests: list[str]) -> str:
    return f": {', '.join(digest[:8] for digest in digests)}" if len(digests) <= FEW else ""


def _dataset(entry: Mapping[str, Any]) -> nodes.list_item:
    counts = entry["counts"]
    if len(counts) > SEVERAL:
        low, high = min(counts.values()), max(counts.values())
        each = f"{low} each" if low == high else f"{low} to {high} each"
        words = f"{len(counts)} classes, {each}"
    else:
        words = ", ".join(f"{name} {count}" for name, count in counts.items())
    left_out = ", ".join(f"{count} {reason}" for reason, count in entry["excluded"].items() if count)
    text = f"{entry['name']}: {entry['images']:,} images"
    text += f" ({words})" if words else ""
    text += f"; left out: {left_out}" if left_out else ""
    text += f". {entry['source']}" if entry["source"] else ""
    return nodes.list_item("", _paragraph(f"{text}. ", *_digest(entry["digest"])))


def _network(entry: Mapping[str, Any]) -> nodes.list_item:
    seed = "" if entry["weights_seed"] is None else f", seed {entry['weights_seed']}"
    text = f"{entry['name']}, {entry['weights']} weights{seed}. "
    return nodes.list_item("", _paragraph(text, *_digest(entry["weights_digest"])))


def _digest(digest: str) -> list[nodes.Node]:
    return [nodes.Text("SHA-256 "), nodes.literal(text=digest)]


def _machine(environment: Mapping[str, Any]) -> str:
    memory = environment["memory_gib"]
    parts = [environment["cpu"], _count(environment["cores"], "core"), f"{memory:g} GiB" if memory else ""]
    return ", ".join(part for part in [*parts, ", ".join(environment["gpus"]) or "no GPU"] if part)


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def setup(app: Sphinx) -> dict[str, object]:
    """Register the directive."""
    app.add_directive("provenance", Provenance)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
