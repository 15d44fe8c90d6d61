"""Where data sets and weights come from: a table of addresses, checksums, sizes and licences.

Facts only; :mod:`scalelib.datasets.download` acts on them, ``scalelib doctor`` reports on them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scalelib.errors import DataError, did_you_mean

VOC_LICENCE = "Flickr terms of use, research only; cite Everingham et al. 2010"


@dataclass(frozen=True)
class Source:
    """One thing that can be fetched, or that has to be asked for.

    Parameters
    ----------
    name : str
        What it is called on the command line and in profiles.
    title : str
        What it is, for people.
    url : str or None
        Where it comes from; None if nobody but its owners may hand it out.
    checksum : str or None
        ``"md5:…"`` or ``"sha256:…"`` as published; None if nothing is published.
    megabytes : int or None
        Size of the download, about; None if it is not known.
    licence : str
        Terms and the citation that they ask for.
    target : str
        Where it lies, relative to the data root (or to Keras's cache for Keras's weights): the file, or
        the folder into which the archive's entries of that name go.
    unpack : {"tar", "zip", None}
        The archive's kind; None for a plain file.
    into : str
        Folder, relative to the data root, in which the archive is unpacked.
    marker : str
        What is there once everything is, and is placed last; the target itself by default.
    disk_megabytes : int or None
        Room that it takes when unpacked, about. Default: that of the download.
    page : str
        A page for people, where the download does not work.
    store : {"data", "keras"}
        Whether `target` is meant from the data root or from Keras's cache.
    """

    name: str
    title: str
    url: str | None
    checksum: str | None
    megabytes: int | None
    licence: str
    target: str
    unpack: Literal["tar", "zip"] | None = None
    into: str = ""
    marker: str = ""
    disk_megabytes: int | None = None
    page: str = ""
    store: Literal["data", "keras"] = "data"

    def place(self, root: Path) -> Path:
        """The path whose existence says that everything is there.

        Parameters
        ----------
        root : pathlib.Path
            The data root, or Keras's cache if `store` is ``"keras"``.
        """
        return root / (self.marker or self.target)

    def is_present(self, root: Path) -> bool:
        """Whether it lies under `root`, whole: the marker is placed last, a file has its checksum."""
        place = self.place(root)
        if place.is_dir():
            return any(place.iterdir())
        return place.is_file() and (self.unpack is not None or has_digest(place, self.checksum))


def has_digest(path: Path, digest: str | None) -> bool:
    """Whether a file has a digest such as ``"md5:…"``; without a digest, any file does."""
    if digest is None:
        return True
    kind, _, expected = digest.partition(":")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, kind).hexdigest() == expected


def _voc(year: int, split: str, *, day: str, archive: str, md5: str, megabytes: int, images: str) -> Source:
    base = f"http://host.robots.ox.ac.uk/pascal/VOC/voc{year}"
    return Source(
        name=f"voc{year}-{split}",
        title=f"PASCAL VOC{year} {split}, {images} images with boxes",
        url=f"{base}/{archive}_{day}.tar",
        checksum=f"md5:{md5}",
        megabytes=megabytes,
        licence=VOC_LICENCE,
        target=f"VOCdevkit/VOC{year}",
        unpack="tar",
        marker=f"VOCdevkit/VOC{year}/ImageSets/Main/{split}.txt",
        page=f"{base}/index.html",
    )


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        _voc(2007, "trainval", day="06-Nov-2007", archive="VOCtrainval", images="5,011",
             md5="c52e279531787c972589f7e41ab4ae64", megabytes=460),
        _voc(2007, "test", day="06-Nov-2007", archive="VOCtest", images="4,952",
             md5="b6e924de25625d8de591ea690078ad9f", megabytes=451),
        _voc(2012, "trainval", day="11-May-2012", archive="VOCtrainval", images="11,540",
             md5="6cd6e144f989b92b3379bac3b3de84fd", megabytes=2000),
        Source(
            name="bca-nuclei",
            title="ER+ breast cancer, 143 images of 2000×2000 px at 40X with nuclei partly annotated",
            url="https://andrewjanowczyk.com/wp-static/nuclei.tgz",
            checksum=None,
            megabytes=None,
            disk_megabytes=1800,
            licence="none stated, offered for research; cite Janowczyk & Madabhushi 2016",
            target="nuclei",
            unpack="tar",
            into="nuclei",
            page="https://andrewjanowczyk.com/use-case-1-nuclei-segmentation/",
        ),
        Source(
            name="tnbc-nuclei",
            title="Triple-negative breast cancer, 50 images of 512×512 px at 40X with all nuclei annotated",
            url="https://zenodo.org/records/1175282/files/TNBC_NucleiSegmentation.zip",
            checksum=None,
            megabytes=25,
            disk_megabytes=60,
            licence="CC BY 4.0; cite Naylor et al. 2018",
            target="TNBC_nuclei",
            unpack="zip",
            into="TNBC_nuclei",
            page="https://zenodo.org/records/1175282",
        ),
        Source(
            name="squeezenet",
            title="SqueezeNet v1.0 with ImageNet weights, Deep Compression format",
            url="https://raw.githubusercontent.com/songhan/SqueezeNet-Deep-Compression/master/"
            "compressed_SqueezeNet.net",
            checksum="md5:9e65b2784de743985f605095d7412130",
            megabytes=1,
            licence="BSD 2-clause; cite Iandola et al. 2016, Han et al. 2016",
            target="weights/compressed_SqueezeNet.net",
            page="https://github.com/songhan/SqueezeNet-Deep-Compression",
        ),
        Source(
            name="cmu-1-small-region",
            title="One Aperio slide region at 20X, OpenSlide's test data",
            url="https://openslide.cs.cmu.edu/download/openslide-testdata/Aperio/CMU-1-Small-Region.svs",
            checksum="sha256:ed92d5a9f2e86df67640d6f92ce3e231419ce127131697fbbce42ad5e002c8a7",
            megabytes=2,
            licence="CC0",
            target="slides/CMU-1-Small-Region.svs",
            page="https://openslide.cs.cmu.edu/download/openslide-testdata/",
        ),
        Source(
            name="tcga-cr-7395",
            title="One TCGA slide that states neither power nor microns per pixel, TCGA-CR-7395-01A-01-TS1.svs",
            url=None,
            checksum=None,
            megabytes=None,
            licence="TCGA publication guidelines",
            target="slides/TCGA-CR-7395-01A-01-TS1.svs",
            page="https://portal.gdc.cancer.gov/",
        ),
        Source(
            name="imagenet-classes",
            title="Names of the 1,000 ImageNet classes, as keras.applications reads them",
            url="https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json",
            checksum="md5:c2c37ea517e94d9795004a39431a14cb",
            megabytes=1,
            licence="Apache 2.0",
            target="models/imagenet_class_index.json",
            page="https://keras.io/api/applications/",
            store="keras",
        ),
        Source(
            name="monuseg",
            title="MoNuSeg 2018, H&E of several organs at 40X with all nuclei annotated",
            url=None,
            checksum=None,
            megabytes=None,
            licence="CC BY-NC-SA 4.0; cite Kumar et al. 2017, 2020",
            target="MoNuSeg",
            page="https://monuseg.grand-challenge.org/Data/",
        ),
    )
}  # fmt: skip


def find_source(name: str) -> Source:
    """A source by its name.

    Parameters
    ----------
    name : str
        One of :data:`SOURCES`.

    Returns
    -------
    Source

    Raises
    ------
    DataError
        If there is none of that name; near matches are named.

    Examples
    --------
    >>> find_source("voc2007-test").marker
    'VOCdevkit/VOC2007/ImageSets/Main/test.txt'
    """
    try:
        return SOURCES[name.lower()]
    except KeyError:
        hint = did_you_mean(name, SOURCES)
        raise DataError(
            f"fetch: no source {name!r}.\nReceived: {name!r}.\n"
            + " ".join(part for part in (hint, f"Sources are {', '.join(SOURCES)}.") if part)
        ) from None
