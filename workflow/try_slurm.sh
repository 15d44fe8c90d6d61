#!/usr/bin/env bash
# Tries the workflow on a Slurm of one node, set up here and stopped in the end: make try-slurm
# Needs Debian or Ubuntu, root, its packages slurm-wlm and munge (installed if missing), no Slurm already configured, and
# the environment of `make setup`; works in a copy of the checkout. One job is killed, and once the driver.
set -euo pipefail
checkout=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
say() { echo "$(date +%T)  $*"; }

[ "$(id -u)" = 0 ] || { echo "try_slurm: only root may start Slurm's daemons"; exit 2; }
if ! command -v slurmctld munged > /dev/null; then
    apt-get install -y -qq --no-install-recommends slurm-wlm munge > "$work/apt.log"
fi
[ ! -e /etc/slurm/slurm.conf ] || { echo "try_slurm: /etc/slurm/slurm.conf is there already; this Slurm is not ours to stop"; exit 2; }

driver=
stop() {
    [ -z "$driver" ] || kill "$driver" 2> /dev/null || true
    for daemon in slurmd slurmctld; do [ ! -f "$work/$daemon.pid" ] || kill "$(cat "$work/$daemon.pid")" || true; done
    [ ! -f "$work/munged.pid" ] || kill "$(cat "$work/munged.pid")" || true
    rm -f /etc/slurm/slurm.conf /etc/slurm/cgroup.conf
    say "daemons stopped; logs in $work"
}
trap stop EXIT

cores=$(nproc)
host=$(hostname -s)
mkdir -p /etc/slurm "$work"/{state,spool} /run/munge
cat > /etc/slurm/slurm.conf << CONF
ClusterName=one
SlurmctldHost=$host
SlurmUser=root
AuthType=auth/munge
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
NodeName=$host CPUs=$cores RealMemory=$(free -m | awk '/^Mem/ {print int($2 * 0.9)}')
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE
CONF
[ -f /etc/munge/munge.key ] || mungekey --create
chown -R munge: /etc/munge /run/munge
runuser -u munge -- munged --pid-file=/run/munge/munged.pid
ln -s /run/munge/munged.pid "$work/munged.pid"
slurmctld && slurmd
for _ in $(seq 20); do sinfo --noheader --format %T | grep -q idle && break; sleep 1; done
say "Slurm $(sinfo --version | cut -d' ' -f2): $(sinfo --noheader --format '%c cores, %m MB, %T')"

# The plugin in an environment of its own that sees the checkout's.
python=$checkout/.venv/bin/python
"$python" -m venv "$work/venv"
"$python" -c 'import site; print(site.getsitepackages()[0])' > "$("$work/venv/bin/python" -c 'import site; print(site.getsitepackages()[0])')/checkout.pth"
"$work/venv/bin/python" -m pip install --quiet --constraint "$checkout/constraints.txt" snakemake-executor-plugin-slurm
export PATH=$work/venv/bin:$checkout/.venv/bin:$PATH

# Two copies of the checkout with one small profile: a table that chooses, six runs of training, the notebook after them.
for copy in local slurm; do
    mkdir "$work/$copy"
    (cd "$checkout" && git ls-files -co --exclude-standard -z | xargs -0 cp --parents -t "$work/$copy" 2> /dev/null || true)
    cat > "$work/$copy/profiles/trial.yaml" << 'PROFILE'
notebooks:
  04_layerwise_r2:
    dataset: scenes
    dataset_options: {n: 400, random_state: 7}
    repeats: 3
    permutations: 9
  05_histopathology_transfer:
    dataset: rendered_slides
    networks:
      - {name: control, label: control, weights: all_scales, full_tap: conv11, transfer_seeds: 1, targets: [area, log2_magnification]}
    schedule: {epochs: 12, batchnorm_momentum: 0.9, learning_rate: 0.001}
PROFILE
done
drive() { # in a copy: as this machine's own user would
    cd "$work/$1" && PYTHONPATH=$PWD exec "$work/venv/bin/python" -m snakemake "${@:2}" --config profile=trial group_runs= -- executed
}
on_slurm=(--workflow-profile workflow/profiles/slurm --slurm-status-command squeue
    --slurm-init-seconds-before-status-checks 5 --seconds-between-status-checks 5)
queue() { squeue --noheader --format '%i %T %C cores %m %l  %k' | sed 's/rule_//; s/_wildcards_/ /'; }
running() { squeue --noheader --states running --format '%i %k' | awk '/transfer_run/ {print $1; exit}'; }
epoch_done() { compgen -G "$work/slurm/.cache/transfer/trial/*/unfinished.npz" > /dev/null && [ -n "$(running)" ]; }

say "local run"
(drive local --cores "$cores") > "$work/local.log" 2>&1
say "the same through Slurm"
(drive slurm "${on_slurm[@]}") > "$work/slurm.log" 2>&1 &
driver=$!
until epoch_done; do kill -0 $driver; sleep 0.2; done
queue
job=$(running)
say "killing job $job"
scancel --full --signal=KILL "$job"
until grep -q " failed  " "$work/slurm.log"; do kill -0 $driver; sleep 0.5; done
sleep 1
grep -E "^ +[0-9]+:[0-9]+ +(failed|started)" "$work/slurm.log" | tail -n 2
until epoch_done; do kill -0 $driver; sleep 0.2; done
say "killing the driver, whose jobs go on"
kill -KILL $driver; wait $driver 2> /dev/null || true
driver=
queue
(drive slurm --unlock) > "$work/unlock.log" 2>&1
say "the same command again"
(drive slurm "${on_slurm[@]}") >> "$work/slurm.log" 2>&1
grep -E "^ +[0-9]+:[0-9]+ +finished" "$work/slurm.log"

say "tables of the two runs:"
cd "$work"
python "$checkout/workflow/compare_results.py" local/results/trial slurm/results/trial
same=0
for file in local/.cache/transfer/trial/*/predictions.csv.gz; do
    cmp <(zcat "$file") <(zcat "slurm/${file#local/}") && same=$((same + 1))
done
say "$same of 6 networks trained under Slurm predict what those trained here predict, to the bit"
[ "$same" = 6 ]
