"""Run on a manager that stays: a line on stdin says "now", and the answer is who leads next.

Both moments are this machine's, so that no two clocks are compared. Used by demo-failover.sh.
"""

import sys
import time

from swarm.api.v1 import control_pb2, daemon_pb2
from swarm.cli.errors import CliError
from swarm.cli.session import Session

PAUSE_S = 0.005
PATIENCE_S = 60.0


def main() -> int:
    client = Session().client

    def leader() -> int:
        info = client.ask(lambda stubs: stubs.daemon.Info, daemon_pb2.InfoRequest())
        return info.leader_raft_id

    old = leader()
    print("watching", flush=True)
    sys.stdin.readline()
    moment = time.monotonic()
    while leader() in (0, old):
        if time.monotonic() - moment > PATIENCE_S:
            print(f"nobody leads after {PATIENCE_S:g} s", file=sys.stderr)
            return 1
        time.sleep(PAUSE_S)
    took_ms = (time.monotonic() - moment) * 1000
    nodes = client.ask(lambda stubs: stubs.control.ListNodes, control_pb2.ListNodesRequest()).nodes
    name = next(view.node.description.hostname for view in nodes if view.manager.leader)
    print(f"{name} {took_ms:.0f}", flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CliError as error:
        sys.exit(error.message)
