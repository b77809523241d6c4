"""The real world: clocks, disks, databases, sockets and processes as they are."""
