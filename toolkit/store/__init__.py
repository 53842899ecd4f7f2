"""What is kept of runs: every call is committed before its reply is used, and can be taken again for nothing.

``schema`` says what the tables are and ``migrations`` how older ones become them; ``database`` opens them,
``commits`` puts what many threads write at once into one transaction. ``store`` writes and finds rows,
``budget`` holds what may be spent, and ``keeper`` is what one run sees of all that.

The modules of this folder load SQLAlchemy, so nothing imports them before a run needs them.
"""
