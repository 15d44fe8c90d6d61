"""One file from one address: resumed or cleanly retried, and checked before it counts.

Built on pooch, which compares digests and moves a whole file into place. Knows no sources and no
folders' meaning.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pooch
import requests

from scalelib.progress import track

CHUNK = 2**20
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})


class NotReachable(Exception):
    """The file did not arrive; the message is the plain reason."""


class WrongDigest(Exception):
    """The file arrived, and is another one; the message counts the attempts."""


def download(
    url: str,
    path: Path,
    *,
    digest: str | None,
    label: str,
    attempts: int,
    timeout: tuple[float, float],
    pause: float,
) -> Path:
    """Download a file, unless it is there with the right digest.

    Parameters
    ----------
    url : str
        Address, http or https.
    path : pathlib.Path
        Where the file is to be; its folder must exist.
    digest : str or None
        ``"md5:…"`` or ``"sha256:…"``. With None, whatever arrives whole is taken, and an interrupted
        download starts anew, because nothing could tell two versions' halves apart.
    label : str
        Words in front of the progress bar, and the unfinished file's name.
    attempts : int
        How often a failing connection, a server's error or a wrong digest is tried, in all.
    timeout : tuple of float
        Seconds to wait for a connection, and for the next bytes.
    pause : float
        Seconds before the second attempt; doubles with every further one.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    NotReachable, WrongDigest
        After the last attempt, or at once where another attempt cannot help (404 and the like).
    """
    pooch.get_logger().setLevel("ERROR")
    downloader = _Downloader(label=label, timeout=timeout, resume=digest is not None)
    attempt = 1
    while True:
        try:
            return Path(pooch.retrieve(url, digest, path.name, path.parent, downloader=downloader))
        except requests.RequestException as error:
            status = error.response.status_code if error.response is not None else None
            if attempt == attempts or (status is not None and status not in TRANSIENT):
                raise NotReachable(f"{_reason(error)} after {_times(attempt)}") from error
        except ValueError as error:  # pooch's word for a digest that does not match
            if attempt == attempts:
                raise WrongDigest(f"another digest than {digest} in {_times(attempt)}") from error
        time.sleep(pause * 2 ** (attempt - 1))
        attempt += 1


def _times(attempt: int) -> str:
    return "1 attempt" if attempt == 1 else f"{attempt} attempts"


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"the server's answer {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    return f"{type(error).__name__}: {_innermost(error)}"


def _innermost(error: BaseException) -> BaseException:
    """The plain reason inside the several layers that an HTTP library wraps around it."""
    inner = getattr(error, "reason", None) or next((a for a in error.args if isinstance(a, Exception)), None)
    return _innermost(inner) if isinstance(inner, BaseException) else error


@dataclass
class _Downloader:
    """What pooch calls to fill its temporary file; keeps unfinished bytes beside it for the next try."""

    label: str
    timeout: tuple[float, float]
    resume: bool

    def __call__(self, url: str, output_file: str, _pooch: object, check_only: bool = False) -> None:
        unfinished = Path(output_file).parent / f".{self.label}.part"
        start = unfinished.stat().st_size if self.resume and unfinished.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        with requests.get(url, headers=headers, stream=True, timeout=self.timeout) as response:
            if response.status_code == 416:  # the bytes kept are not the beginning of this file
                unfinished.unlink()
                raise requests.ConnectionError("the server has no such range")
            response.raise_for_status()
            goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
            if response.status_code != 206 or not goes_on:
                start = 0
            length = int(response.headers.get("Content-Length", 0))
            with unfinished.open("ab" if start else "wb") as out:
                _copy(response, out, length, self.label)
            if length and unfinished.stat().st_size != start + length:
                raise requests.ConnectionError(
                    f"{unfinished.stat().st_size} of {start + length} bytes arrived"
                )
        unfinished.replace(output_file)


def _copy(response: requests.Response, out: IO[bytes], length: int, label: str) -> None:
    chunks = response.iter_content(CHUNK)
    for chunk in track(chunks, label=label, total=-(-length // CHUNK) or None, unit="MiB"):
        out.write(chunk)


def remote_megabytes(url: str, *, timeout: float = 5.0) -> int | None:
    """The size that a server states for a file, rounded up to MB; None if it does not, or is not there."""
    try:
        response = requests.head(
            url, timeout=timeout, allow_redirects=True, headers={"Accept-Encoding": "identity"}
        )
        response.raise_for_status()
        return -(-int(response.headers["Content-Length"]) // 10**6)
    except (requests.RequestException, KeyError, ValueError):
        return None
