"""The names of user and group numbers on this machine, both ways."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Collection, Mapping


def user_names(numbers: Collection[int]) -> dict[int, str]:
    """The names of those users that have one here."""
    names = {}
    for number in numbers:
        try:
            names[number] = pwd.getpwuid(number).pw_name
        except (KeyError, OverflowError):
            continue
    return names


def group_names(numbers: Collection[int]) -> dict[int, str]:
    """The names of those groups that have one here."""
    names = {}
    for number in numbers:
        try:
            names[number] = grp.getgrgid(number).gr_name
        except (KeyError, OverflowError):
            continue
    return names


def user_numbers(names: Mapping[int, str]) -> dict[int, int]:
    """For stored user numbers, the number that their name has here, where it has one."""
    numbers = {}
    for stored, name in names.items():
        try:
            numbers[stored] = pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    return numbers


def group_numbers(names: Mapping[int, str]) -> dict[int, int]:
    """For stored group numbers, the number that their name has here, where it has one."""
    numbers = {}
    for stored, name in names.items():
        try:
            numbers[stored] = grp.getgrnam(name).gr_gid
        except KeyError:
            continue
    return numbers
