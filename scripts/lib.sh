# The set-up that scripts/demo and scripts/test share. Sourced, in the checkout, by bash.

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Newer releases have renamed some libraries: libfuse2 is libfuse2t64 there.
is_installed() {
    { dpkg-query -W -f '${db:Status-Status}\n' "$1" "$1t64" 2>/dev/null || true; } |
        grep -qx installed
}

known_name() {
    if [ -n "$(apt-cache search --names-only "^$1t64\$")" ]; then echo "$1t64"; else echo "$1"; fi
}

install_packages() {
    local sudo=() names=() package
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "Missing, and there is no sudo to install them: $*"
        sudo=(sudo)
    fi
    printf 'Installing the Debian packages: %s\n' "$*"
    "${sudo[@]}" apt-get update -q
    for package in "$@"; do names+=("$(known_name "$package")"); done
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${names[@]}"
}

# set_up WHAT PACKAGE...: the Debian packages that are missing, and .venv with WHAT, for pip
set_up() {
    local what=$1 missing=() package python
    shift
    if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
        for package in "$@"; do is_installed "$package" || missing+=("$package"); done
        if [ "${#missing[@]}" -gt 0 ]; then install_packages "${missing[@]}"; fi
    else
        printf 'Neither Debian nor Ubuntu: the like of these must be installed: %s\n' "$*"
    fi
    python=$(command -v /usr/bin/python3 || command -v python3) || fail "There is no python3"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "ibtfs needs Python 3.10 or newer; $python is older"
    # without a pip that runs it was left half made, or its Python is gone
    .venv/bin/python -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear .venv
    printf 'Installing ibtfs into .venv (at first this takes a minute)\n'
    rm -rf build # or modules that are gone since the last time would be installed again
    .venv/bin/python -m pip install -q --disable-pip-version-check --use-pep517 "$what"
}
