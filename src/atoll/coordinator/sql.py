"""What every ``store`` of the coordinator stands on: the shared schema and prepared statements.

Tables are declared with SQLAlchemy, so that migrations and the golden schema can be checked against
them; hot statements skip SQLAlchemy's compiler, which costs more than the lookups themselves
(docs/spec/metadata.md). ``Statement`` stands in ``economy.sql``, the lowest room that has SQL.
"""

from sqlalchemy import BigInteger, LargeBinary, MetaData, SmallInteger

from atoll.economy.sql import NAMES
from atoll.economy.sql import Statement as Statement

SCHEMA = MetaData(naming_convention=NAMES)
"""All tables of a coordinator. Keys of objects are bytes: both databases order them by byte."""

Bytes = LargeBinary
Big = BigInteger
Small = SmallInteger
