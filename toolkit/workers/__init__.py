"""Episodes worked on by other processes, here or on other machines, through joblib's backends.

=============  =========================================================================================
driver         ``team`` all that a run has to do with them, ``driving`` gives them episodes and takes what
               comes of each, ``watching`` tells them to stop and knows what they wait for
between        ``travel`` the small records that go there and come back
worker         ``worker`` one process's part in a run, ``held`` its providers: one for each config
=============  =========================================================================================

A provider is made where it is used, from the config, whose secrets come from the environment there: neither
is ever pickled. What a call brings goes from the worker into the store, before anybody sees it. So a worker
that is lost takes nothing with it but the calls under way: another one is given its episode and takes up
what the store has of it.
"""
