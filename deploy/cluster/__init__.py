"""Workers of a fleet, placed on a Ray cluster: the same worker command as everywhere, one detached actor a slot.

``order`` says what is to be placed, ``keeper`` runs one worker, ``slot`` is the actor around it, ``notebook`` outlives
them, and ``placing`` speaks to Ray from outside. Only ``joining`` imports Ray, and only when it is asked to.
"""
