"""The settlement chain: any EVM chain by JSON-RPC, and an embedded one for a single machine.

``rpc`` answers ``core.ports.Chain``; ``signer`` has keys; ``outbox`` gets transactions onto the
chain and keeps them there; ``watcher`` brings what contracts said into SQL; ``deploy`` puts the
contracts on a chain and the address ``book`` says where; ``anvil`` and ``pychain`` run a chain on
this machine. The libraries of the chain (extra ``chain``) are imported only below this room, and
only when a chain is used.
"""
