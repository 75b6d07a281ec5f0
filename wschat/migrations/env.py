"""Run by Alembic: the connection comes from `wschat.database.migrate`."""

from alembic import context

from wschat.database import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
