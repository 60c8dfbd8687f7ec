"""Ports of the local stack, all on loopback: where each part listens, and whether the port is free."""

import socket
from dataclasses import asdict, dataclass, fields

import psutil

from flows.errors import Refusal

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """One port per server; options of `python -m infra.stack up`."""

    postgres: int = 15432
    s3: int = 9000
    s3_account: int = 6202
    s3_container: int = 6201
    s3_object: int = 6200
    mlflow: int = 5000
    prefect: int = 4200

    def option(self, name: str) -> str:
        """The command line's name of a port."""
        return f"--{name.replace('_', '-')}-port"


def free_ports() -> Ports:
    """Return ports that nothing listens on now, for a second stack beside the first."""
    held = []
    try:
        for _ in fields(Ports):
            probe = socket.socket()
            probe.bind((HOST, 0))
            held.append(probe)
        return Ports(*(probe.getsockname()[1] for probe in held))
    finally:
        for probe in held:
            probe.close()


def require_free(ports: Ports, names: set[str]) -> None:
    """Check the named ports before anything is started.

    Raises:
        Refusal: one is in use; the message names it, who has it, and the option that chooses another.
    """
    for name, port in asdict(ports).items():
        if name in names and not _is_free(port):
            raise Refusal(
                f"port {port} ({name}) is in use{_holder(port)}; free it, or choose another: "
                f"python -m infra.stack up {ports.option(name)} N"
            )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _holder(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by process {connection.pid} ({psutil.Process(connection.pid).name()})"
    except psutil.Error:  # another user's process, or gone meanwhile
        pass
    return ""
