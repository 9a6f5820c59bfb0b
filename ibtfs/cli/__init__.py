"""The command line: the only layer that prints, exits, reads the environment.

:mod:`.main` is the door, :mod:`.commands` holds one module a command, :mod:`.failures` turns errors
into lines and exit codes, :mod:`.command` and :mod:`.words` are what commands are made of,
:mod:`.output` and :mod:`.progress` what they show.
"""
