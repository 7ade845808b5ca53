# Shared by packaging/demo and packaging/check: what a bare Debian 12 or 13 needs. POSIX sh.

# What the daemon, the CLI and the bus need; python3-venv and the rest come with check.
RUN_PACKAGES="python3 python3-dbus-next python3-libvirt python3-croniter python3-systemd
    python3-tomli-w python3-tabulate python3-wcwidth python3-rich python3-argcomplete tzdata dbus
    systemd util-linux"
# What a real guest needs.
GUEST_PACKAGES="libvirt-daemon-system libvirt-clients qemu-system-x86 qemu-utils e2fsprogs
    kmod cpio xz-utils"
# The clients that tests/clients and packaging/examples are written with; busctl is systemd's. The
# shells that complete, what shows manual pages, and what holds documents to their schema.
CLIENT_PACKAGES="libglib2.0-bin python3-gi gir1.2-glib-2.0 python3-dbus bash-completion zsh fish
    man-db groff-base python3-jsonschema"
# What builds the packages and looks at them (packaging/deb); the last two make the manual pages.
BUILD_PACKAGES="dpkg-dev debhelper dh-python pybuild-plugin-pyproject python3-setuptools lintian
    libglib2.0-dev-bin python3-docutils"
# What a machine of tests/system has beside all that: it boots from this one's root.
SYSTEM_PACKAGES="systemd-sysv libpam-systemd dbus-user-session polkitd passwd procps tar mount"

say() {
    printf '%s\n' "$*" >&2
}

die() {
    say "${0##*/}: $*"
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -E "$@"
    else
        die "needs root or sudo for: $*"
    fi
}

# Install those of the packages that are missing; quick and quiet where none is.
need_packages() {
    command -v apt-get >/dev/null || die "this script sets up Debian 12 or 13; install by hand: $*"
    missing=""
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
            missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    say "installing:$missing"
    log=$(mktemp)
    # shellcheck disable=SC2086  # a list of words
    if ! { as_root apt-get -q update &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends \
            $missing; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        die "apt could not install what is needed"
    fi
    rm -f "$log"
}
