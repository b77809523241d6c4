"""What a relay's operator decides."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """Where a relay listens, for whom, how much it carries."""

    operator: str
    host: str = "127.0.0.1"
    """Address it listens on, for nodes and for those who look for them."""
    port: int = 9005
    """Where nodes build their tunnels."""
    port_first: int = 9100
    """First of the ports given to nodes, one each; 0 for any that is free."""
    nodes_max: int = 200
    bytes_per_s: int = 0
    """Of one node, in each direction; 0 for no limit."""
    tls: bool = False
    """Whether tunnels run over TLS: everywhere but on loopback."""
    greeting_s_max: float = 10.0

    def __post_init__(self) -> None:
        if self.nodes_max < 1 or self.bytes_per_s < 0:
            raise ValueError("a relay serves at least one node, at no negative rate")
