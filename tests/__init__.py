"""The tests, in rooms: a test goes where its code is, or to what it promises.

``tests/X/`` mirrors ``ibtfs/X/``, folder by folder: what ``ibtfs/actions/backup/large.py`` does is
tested in ``tests/actions/backup/``.  Besides these there are

* ``promises/``: what holds across all layers, whoever keeps it: damage is told, kills lose nothing,
  what is told to be stored is durable, every generation comes back, old repositories can be read,
  large things cost little;
* ``docs/``: what the documents say is so;
* ``scripts/``: the programs of ``scripts/``;
* ``support/``: what tests share, and the tests of the model in it; ``data/``: old repositories;
* ``test_layers.py``: the house itself, this folder included.

Fixtures that all may use are in ``conftest.py``, those of one room in the ``conftest.py`` there.
"""
