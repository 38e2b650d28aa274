"""Several processes of a campaign on one machine, which split the scenes of every step."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from training.campaign.stopping import PARENT, StopRequest

# Seconds that the other processes have to end after one of them failed.
GRACE_S = 20.0
CHECK_EVERY_S = 0.1


def is_launched() -> bool:
    """Return whether a launcher (this one, torchrun, accelerate) has started this process."""
    return "WORLD_SIZE" in os.environ


def launch(arguments: Sequence[str], processes: int, on_cpu: bool) -> int:
    """Run `python -m training.campaign` in several processes and return their exit code.

    Each has one thread on the CPU: a second one makes a training step hardly faster, whereas a
    second process makes almost twice the steps. Ctrl-C and SIGTERM reach all of them.

    Args:
        arguments: Words of the command line.
        processes: Number of processes.
        on_cpu: Whether to leave GPUs alone; otherwise each process takes one.
    """
    with StopRequest().on_signals() as request:
        children = [
            subprocess.Popen(
                [sys.executable, "-m", "training.campaign", *arguments],
                env=environment,
                # A signal of the terminal is passed on below, once.
                start_new_session=True,
            )
            for environment in _environments(processes, on_cpu)
        ]
        return _wait(children, request)


def _environments(processes: int, on_cpu: bool) -> list[dict[str, str]]:
    """Return the environment variables of each process, as torch.distributed reads them."""
    common = {
        **os.environ,
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        PARENT: str(os.getpid()),
    }
    if sys.platform == "linux":
        common["GLOO_SOCKET_IFNAME"] = "lo"
    if on_cpu:
        common |= {"ACCELERATE_USE_CPU": "true"}
        # One thread each, and no thread that spins while it waits.
        common |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    return [{**common, "RANK": str(i), "LOCAL_RANK": str(i)} for i in range(processes)]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait(children: Sequence[subprocess.Popen[bytes]], request: StopRequest) -> int:
    """Wait for all processes; pass on a signal, and end the others when one fails."""
    passed_on, failed_at = False, None
    while any(child.poll() is None for child in children):
        failed = any(child.poll() not in (None, 0) for child in children)
        if failed and failed_at is None:
            failed_at = time.monotonic()
        if (request() or failed) and not passed_on:
            passed_on = True
            _send(children, signal.SIGTERM)
        if failed_at is not None and time.monotonic() > failed_at + GRACE_S:
            _send(children, signal.SIGKILL)
        time.sleep(CHECK_EVERY_S)
    # The lowest code is 0, or that of a signal; a user's error is 2.
    return max((child.returncode for child in children), key=lambda code: (code == 2, code != 0))


def _send(children: Sequence[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    for child in children:
        if child.poll() is None:
            child.send_signal(number)
