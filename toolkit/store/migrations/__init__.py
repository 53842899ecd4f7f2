"""How an older store becomes one of today's tables: a step a file, run by Alembic when a store is opened."""
