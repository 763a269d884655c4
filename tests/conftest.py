"""For every test: no network, one thread, no hub; and a fake dataset that is written once."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before any test imports a library that reads them.
os.environ.update(HF_HUB_OFFLINE="1", WANDB_MODE="offline", TOKENIZERS_PARALLELISM="false", HYDRA_FULL_ERROR="1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

LOOPBACK = ("127.", "::1", "localhost")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only sockets of this machine may be connected; names of other machines are not even looked up."""
    connect, connect_ex, lookup = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def allowed(host: object) -> bool:
        return isinstance(host, str | bytes) and (os.fsdecode(host) or "localhost").startswith(LOOPBACK)

    def check(sock: socket.socket, address: object) -> None:
        if sock.family != socket.AF_UNIX and not (isinstance(address, tuple) and allowed(address[0])):
            raise OSError(f"tests have no network: connection to {address!r} refused")

    def guarded_connect(sock: socket.socket, address):
        check(sock, address)
        return connect(sock, address)

    def guarded_connect_ex(sock: socket.socket, address):
        check(sock, address)
        return connect_ex(sock, address)

    def guarded_lookup(host, *args, **kwargs):
        if host is not None and not allowed(host):
            raise socket.gaierror(f"tests have no network: {host!r} is not looked up")
        return lookup(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_lookup)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """One thread: tests share few cores, and sums come out in one order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def fake_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree in RRSIS-D's layout with 8/4/4 references, two to a picture; not to be changed."""
    from tests.fakes.rrsisd import write_fake_rrsisd

    return write_fake_rrsisd(tmp_path_factory.mktemp("fake") / "data").root
