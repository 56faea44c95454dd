"""What measuring a running service relies on."""

import socket

from service.serving import _bound
from service.settings import Settings, from_environment


def test_replies_are_not_held_back_for_the_clients_acknowledgement():
    """asyncio turns Nagle's algorithm off only on sockets that name TCP; with it a keep-alive client waits 40 ms for each reply."""
    with _bound(Settings(port=0)) as listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_key_of_a_running_service_may_stay_in_the_environment():
    """`PALIMPSEST_KEY` is for commands that call a service (`doctor`, `bench`), which read the settings too."""
    assert from_environment({"PALIMPSEST_KEY": "pal_something"}) == Settings()
