"""`python -m swarm.cli` is swarmctl."""

import sys

from swarm.cli.main import main

sys.exit(main())
