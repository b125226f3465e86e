"""A cluster on this machine, a process a node: what `swarmctl local` does."""
