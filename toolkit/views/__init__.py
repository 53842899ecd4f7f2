"""What is shown of runs and studies, in a notebook and on a report's page, as `toolkit.parts`.

``figures`` are a run's numbers; ``heads`` says what must be known first, ``tables`` and ``readings`` say the
rest. ``study`` does the same for the cells of a sweep.
"""
