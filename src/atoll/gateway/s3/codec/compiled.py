"""The whole codec of one process: built once at start (about 20 ms)."""

from dataclasses import dataclass

from atoll.gateway.s3.codec.decode import InputDecoder
from atoll.gateway.s3.codec.encode import OutputEncoder
from atoll.gateway.s3.codec.model import Model, load_model
from atoll.gateway.s3.codec.router import Router


@dataclass(frozen=True, slots=True)
class Codec:
    """Router, and per operation its decoder and encoder."""

    model: Model
    router: Router
    decoders: dict[str, InputDecoder]
    encoders: dict[str, OutputEncoder]


def compile_codec() -> Codec:
    """Load the model and compile it. Raises ``CONFIG`` where there is no model."""
    model = load_model()
    return Codec(
        model=model,
        router=Router(model),
        decoders={op.name: InputDecoder(model, op) for op in model.operations.values()},
        encoders={op.name: OutputEncoder(model, op) for op in model.operations.values()},
    )
