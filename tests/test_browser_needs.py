"""What the checks of the built book need is found, installed, or named; nothing is skipped in silence."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "checks" / "needs.sh"
BASH = Path("/bin/bash")
pytestmark = pytest.mark.skipif(not BASH.is_file(), reason="no /bin/bash")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder with the only commands of a machine: root's id, Node and npm."""
    for name, does in {"id": "echo 0", "node": "echo v20.1.0", "npm": "true"}.items():
        command(tmp_path, name, does)
    return tmp_path


def command(machine: Path, name: str, does: str) -> Path:
    (machine / name).write_text(f"#!/bin/bash\n{does}\n")
    (machine / name).chmod(0o755)
    return machine / name


def run(machine: Path, **environment: str) -> tuple[int, str, str]:
    environment["PATH"] = str(machine)
    done = subprocess.run([BASH, SCRIPT], env=environment, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome"])
def test_a_browser_that_is_there_is_used_and_one_that_is_named_before_it(machine, name):
    path, mine = command(machine, name, "true"), command(machine, "mine", "true")
    command(machine, "apt-get", "exit 9")
    assert run(machine) == (0, f"{path}\n", "")
    assert run(machine, CHROMIUM=str(mine)) == (0, f"{mine}\n", "")
    code, out, error = run(machine, CHROMIUM="/no/such/browser")
    assert (code, out) == (1, "")
    assert "the browser that CHROMIUM names (/no/such/browser)" in error


@pytest.mark.parametrize(("user", "works_at", "attempts"), [(0, 1, 1), (0, 2, 2), (0, 9, 2), (1000, 1, 0)])
def test_debians_browser_is_installed_by_root_at_two_attempts_or_named(machine, user, works_at, attempts):
    log, browser = machine / "log", machine / "chromium"
    log.touch()
    script = (
        f'echo "$DEBIAN_FRONTEND $*" >> {log}; echo "progress"; [ "$1" = update ] && exit 0\n'
        f'n=0; while read -r line; do [[ "$line" = *install* ]] && n=$((n+1)); done < {log}\n'
        f'[ "$n" = {works_at} ] || exit 100\n'
        f'printf "#!/bin/bash\\n" > {browser}; {os.path.realpath("/bin/chmod")} 755 {browser}'
    )
    command(machine, "apt-get", script)
    command(machine, "id", f"echo {user}")
    code, out, error = run(machine)
    assert (code, out) == ((0, f"{browser}\n") if works_at == attempts else (1, ""))
    assert ("Missing:\n  Chromium" in error) == (code == 1)
    calls = ["noninteractive update -qq", "noninteractive install -y -qq chromium"]
    assert log.read_text().splitlines() == calls * attempts


@pytest.mark.parametrize("version", ["v18.20.4", "v9.0.0", "", "nonsense"])
def test_an_old_or_odd_node_and_everything_that_is_missing_is_named_at_once(machine, version):
    command(machine, "node", f"echo {version}")
    (machine / "npm").unlink()
    code, out, error = run(machine)
    assert (code, out) == (1, "")
    assert [line.split()[0] for line in error.splitlines()[1:]] == ["Node", "npm", "Chromium"]
    assert f"Node 20 or newer (found: {version})" in error
    (machine / "node").unlink()
    assert "(found: none)" in run(machine)[2]
