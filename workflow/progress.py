"""One line when a job starts and one when it ends, for people: what, how many are left, since when."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path


class Progress(logging.Handler):
    """Follows the events of Snakemake's log, in place of what it prints; what a failed job said last is shown.

    Warnings and errors are printed as ever, everything into Snakemake's own log file.
    """

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        for handler in logger.handlers:
            if handler.name == "DefaultStreamHandler":
                handler.setLevel(logging.WARNING)
        self.began, self.ended = time.monotonic(), ""
        self.names, self.since = dict[int, str](), dict[int, float]()

    def emit(self, record: logging.LogRecord) -> None:
        """Say what an event means, if it means something to a reader."""
        event, about, now = str(getattr(record, "event", "")), record.__dict__, time.monotonic()
        if event == "job_info":
            self.names[about["jobid"]] = " ".join([about["rule_name"], *about["wildcards"].values()])
            self.since[about["jobid"]] = now
            self.say(f"started  {self.names[about['jobid']]}")
        elif event == "job_finished":
            seconds = now - self.since.pop(about["job_id"], now)
            self.ended = f"finished {self.names.get(about['job_id'], 'a job')} in {seconds:.0f} s"
        elif event == "progress":
            self.say(f"{self.ended}; {about['total'] - about['done']} left")
        elif event == "job_error":
            self.since.pop(about["jobid"], None)
            self.say(f"failed   {self.names.get(about['jobid'], about['rule_name'])}")
            for log in map(Path, about["log"]):
                if log.is_file():
                    print(*log.read_text(errors="replace").splitlines()[-20:], sep="\n", file=sys.stderr)

    def say(self, what: str) -> None:
        """One line, with the time since the start."""
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        print(f"{minutes:3d}:{seconds:02d}  {what}", file=sys.stderr, flush=True)
