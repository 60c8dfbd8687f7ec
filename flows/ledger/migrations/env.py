"""What alembic runs: the revisions that lack, on the connection, and inside the transaction, of its caller."""

from alembic import context

from flows.ledger.migrate import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
