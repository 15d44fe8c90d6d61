"""What the checks of the built book need is found, installed, or named; nothing is skipped in silence."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "checks" / "needs.sh"
BASH = Path("/bin/bash")
pytestmark = pytest.mark.skipif(not BASH.is_file(), reason="no /bin/bash")


class Machine:
    """A machine whose only commands are those it is given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.command("id", "echo 0")
        self.command("node", "echo v20.1.0")
        self.command("npm", "true")

    def command(self, name: str, does: str) -> Path:
        path = self.folder / name
        path.write_text(f"#!/bin/bash\n{does}\n")
        path.chmod(0o755)
        return path

    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BASH, SCRIPT],
            env={"PATH": str(self.folder), **environment},
            capture_output=True,
            text=True,
            timeout=30,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome"])
def test_a_browser_that_is_there_is_used(machine, name):
    path = machine.command(name, "true")
    machine.command("apt-get", "exit 9")
    done = machine.run()
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{path}\n", "")


def test_a_browser_that_is_named_is_used_or_missed_but_never_replaced(machine):
    machine.command("chromium", "true")
    mine = machine.command("mine", "true")
    assert machine.run(CHROMIUM=str(mine)).stdout == f"{mine}\n"
    done = machine.run(CHROMIUM="/no/such/browser")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "the browser that CHROMIUM names (/no/such/browser)" in done.stderr


@pytest.mark.parametrize("works_at", [1, 2])
def test_debians_browser_is_installed_at_the_second_attempt_too(machine, works_at):
    log, browser = machine.folder / "log", machine.folder / "chromium"
    machine.command(
        "apt-get",
        f'echo "$DEBIAN_FRONTEND $*" >> {log}; echo "progress"; [ "$1" = update ] && exit 0\n'
        f'n=0; while read -r line; do [[ "$line" = *install* ]] && n=$((n+1)); done < {log}\n'
        f'[ "$n" = {works_at} ] || exit 100\n'
        f'printf "#!/bin/bash\\n" > {browser}; {os.path.realpath("/bin/chmod")} 755 {browser}',
    )
    done = machine.run()
    assert (done.returncode, done.stdout) == (0, f"{browser}\n"), done.stderr
    calls = log.read_text().splitlines()
    assert calls == ["noninteractive update -qq", "noninteractive install -y -qq chromium"] * works_at


def test_an_index_that_cannot_be_reached_fails_after_two_attempts_and_says_so(machine):
    log = machine.folder / "log"
    machine.command("apt-get", f'echo "$*" >> {log}; exit 100')
    done = machine.run()
    assert done.returncode == 1
    assert "Missing:\n  Chromium (not installed" in done.stderr
    assert log.read_text() == "update -qq\n" * 2


def test_without_root_nothing_is_installed(machine):
    machine.command("id", "echo 1000")
    machine.command("apt-get", f"echo called > {machine.folder / 'log'}")
    assert "Chromium" in machine.run().stderr
    assert not (machine.folder / "log").exists()


@pytest.mark.parametrize("version", ["v18.20.4", "v9.0.0", "", "nonsense"])
def test_an_old_or_odd_node_is_named_with_its_version(machine, version):
    machine.command("chromium", "true")
    machine.command("node", f"echo {version}")
    done = machine.run()
    assert done.returncode == 1
    assert f"Node 20 or newer (found: {version})" in done.stderr


def test_everything_that_is_missing_is_named_at_once(machine):
    for name in ("node", "npm"):
        (machine.folder / name).unlink()
    done = machine.run()
    assert done.returncode == 1
    assert done.stdout == ""
    assert [line.split()[0] for line in done.stderr.splitlines()[1:]] == ["Node", "npm", "Chromium"]
    assert "(found: none)" in done.stderr
