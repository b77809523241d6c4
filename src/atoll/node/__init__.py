"""The provider's agent: piece store, service, HTTP interface."""
