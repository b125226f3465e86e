"""A cluster on this machine, a process a node: what `swarmctl local` does."""

import os

# Starting a process with a group id of its own forks, and gRPC's handlers of that, which nobody
# needs before an exec, end the child when another thread is in a call. Set before gRPC is loaded.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
