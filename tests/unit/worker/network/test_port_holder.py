"""Whose listener is in the way, read from /proc."""

import os
import socket

from swarm.worker.network.port_holder import holder_of


def test_the_holder_of_an_address_is_named_and_no_other() -> None:
    with socket.create_server(("127.77.1.1", 0)) as listener:
        port = listener.getsockname()[1]
        me = f"pid {os.getpid()} "
        assert holder_of(port).startswith(me)
        assert holder_of(port, host="127.77.1.1").startswith(me)
        assert holder_of(port, host="0.0.0.0").startswith(me)
        assert holder_of(port, host="127.77.1.2") == "another program"
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        assert holder_of(port, host="127.77.1.1").startswith(me)
