"""The way of the data: encrypt, encode, place, transfer; and the SDK.

``AsyncClient`` and ``Client`` are the SDK: S3 over HTTP for programs of customers. They are loaded
when first asked for, so that the other parts of this room stay light.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atoll.client.sdk.asynchronous import AsyncClient
    from atoll.client.sdk.model import ObjectEntry, ObjectHead, Options, PrefixEntry, Progress
    from atoll.client.sdk.synchronous import Client

__all__ = [
    "AsyncClient",
    "Client",
    "ObjectEntry",
    "ObjectHead",
    "Options",
    "PrefixEntry",
    "Progress",
]
_PLACES = {"AsyncClient": "asynchronous", "Client": "synchronous"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"atoll.client.sdk.{_PLACES.get(name, 'model')}"), name)
