"""Run the scale `smoke` through a real Slurm of one node, on loopback, and hold its records to those made without it.

    python tools/slurm_here.py [--keep]

Needs Debian's slurm-wlm and munge (apt-get install slurm-wlm munge), root, for Slurm's daemons start jobs as their
users, and snakemake-executor-plugin-slurm. Where one of them is not there, one line says so, and the exit status is 0:
nothing was tried. All is written to a temporary folder, which --keep leaves for a look at the logs; but for the length
of the trial a link to its configuration stands at /etc/slurm/slurm.conf, where jobs look for it.
"""

import argparse
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
PLUGIN = "snakemake_executor_plugin_slurm"
CONFIGURED = Path("/etc/slurm/slurm.conf")
PATIENCE = 60  # seconds for the node to come up
CONFIGURATION = """\
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthInfo=socket={folder}/munge.socket
SlurmUser={user}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
MinJobAge=300
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def main() -> int:
    """Return 0 where the records are equal, or where nothing could be tried."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--keep", action="store_true", help="leave the temporary folder")
    keep = options.parse_args().keep
    if missing := hindrance():
        print(f"not tried: {missing}")
        return 0
    with folder_of(keep) as folder:
        with node(folder):
            told = through_slurm(folder / "through")
        plain = folder / "through" / "results" / "plain"
        command = [sys.executable, "-m", "hylorada", "run", "--scale", "smoke", "--quiet", "--records", str(plain)]
        subprocess.run(command, cwd=folder / "through", check=True)
        names = sorted(path.parent.name for path in plain.glob("*/record.json"))
        command = [sys.executable, "-m", "hylorada", "compare", "--records", str(plain.with_name("runs"))]
        compared = subprocess.run([*command, "--reference", str(plain)], cwd=folder / "through")
        submitted = told.count("has been submitted with SLURM jobid")
        print(f"{len(names)} records by {submitted} jobs of Slurm")
        return compared.returncode or int(not names or not submitted)


def hindrance() -> str:
    """Return what keeps a Slurm from being started here, or nothing."""
    if absent := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"{', '.join(absent)} not installed; apt-get install slurm-wlm munge"
    if find_spec(PLUGIN) is None:
        return f"{PLUGIN.replace('_', '-')} not installed; pip install it"
    if CONFIGURED.exists():
        return f"{CONFIGURED} is there: this machine has a Slurm of its own"
    return "" if os.geteuid() == 0 else "only root can start Slurm's daemons"


@contextmanager
def folder_of(keep: bool) -> Iterator[Path]:
    """Yield a temporary folder, which stays with `keep`."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    try:
        yield folder
    finally:
        print(folder) if keep else shutil.rmtree(folder)


@contextmanager
def node(folder: Path) -> Iterator[None]:
    """Start munge and Slurm on loopback, for the length of a block."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    for path, mode in ((folder, 0o755), (folder / "munge.key", 0o400)):
        path.chmod(mode)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    facts = dict(folder=folder, host=socket.gethostname().split(".")[0], user="root", cores=os.cpu_count())
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(**facts, memory=memory * 9 // 10, ports=free_ports(2)), encoding="utf-8"
    )
    CONFIGURED.parent.mkdir(exist_ok=True)
    CONFIGURED.symlink_to(folder / "slurm.conf")
    munge = [
        "--socket",
        "munge.socket",
        "--key-file",
        "munge.key",
        "--pid-file",
        "munge.pid",
        "--log-file",
        "munge.log",
    ]
    munge = [word if word.startswith("--") else str(folder / word) for word in munge]
    commands = (["munged", "--foreground", "--force", "--seed-file", str(folder / "munge.seed"), *munge],)
    commands += (["slurmctld", "-D"], ["slurmd", "-D"])
    with ExitStack() as stack:
        stack.callback(CONFIGURED.unlink)
        for command in commands:
            stack.enter_context(running(command, folder))
            time.sleep(1)  # each looks for the one before
        wait_for_node()
        yield


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[None]:
    """Keep a daemon running for the length of a block."""
    with (folder / f"{command[0]}.out").open("w", encoding="utf-8") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=30)


def wait_for_node() -> None:
    """Return when the node takes jobs."""
    for _ in range(PATIENCE):
        told = subprocess.run(
            ["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, encoding="utf-8", errors="replace"
        )
        if told.stdout.strip() == "idle":
            return
        time.sleep(1)
    sys.exit(f"the node did not come up in {PATIENCE} s: {told.stdout.strip()} {told.stderr.strip()}")


def through_slurm(folder: Path) -> str:
    """Make all of smoke but the PDF in a folder; return what was told."""
    folder.mkdir()
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--profile", str(ROOT / "profiles" / "slurm"), "--config", "scale=smoke"]
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = os.environ | {"PATH": path, "HYLORADA_TEX": "none"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", errors="replace")
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return done.stdout + done.stderr


def free_ports(number: int) -> list[int]:
    """Return ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


if __name__ == "__main__":
    sys.exit(main())
