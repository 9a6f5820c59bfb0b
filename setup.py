"""Everything about the package is in setup.cfg; this file is for tools that need one."""

from setuptools import setup

setup()
