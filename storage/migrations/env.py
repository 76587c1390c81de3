"""Alembic's environment: runs over the connection that `storage.migrate` hands in."""

from alembic import context

from storage.rows.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
