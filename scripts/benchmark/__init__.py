"""The parts of scripts/bench and scripts/profile: data, tools, measuring, targets, reports.

From the bottom up: `measure` runs one command; `compare` compares trees; `data` makes what is
backed up; `tools` knows the commands of each tool; `install` sets them up; `rounds` takes every
tool through the steps; `results` and `targets` reckon; `report` and `chart` show.
"""
