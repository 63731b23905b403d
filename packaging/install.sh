#!/bin/sh
# Installs Wharf from the folder this script lies in, or takes it away again. It asks nothing, downloads nothing, and
# prints every command before it runs it.
#
#   install.sh [--prefix DIR] [--dry-run]              DIR is /usr/local unless given
#   install.sh --uninstall [--purge] [--prefix DIR]    --purge deletes images, containers and the user, too
#
# Files go to DIR/lib/wharf (program and ONNX Runtime), DIR/bin/wharf (a link to it) and DIR/share (manual, completions);
# DIR/lib/wharf/installed lists them. With the default DIR, as root, and where systemd runs, it also makes the user and
# group `wharf`, /etc/default/wharf and /etc/systemd/system/wharf.service, and starts the service.
set -eu

prefix=/usr/local
action=install
purge=no
dry=no
here=$(cd "$(dirname "$0")" && pwd)
unit=/etc/systemd/system/wharf.service
defaults=/etc/default/wharf
state=/var/lib/wharf

say() { printf '%s\n' "$*"; }
fail() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }
run() {
    say "+ $*"
    if [ "$dry" = no ]; then "$@"; fi
}

while [ $# -gt 0 ]; do
    case $1 in
        --prefix) [ $# -gt 1 ] || fail "--prefix takes a folder"; prefix=$2; shift ;;
        --prefix=*) prefix=${1#--prefix=} ;;
        --uninstall) action=uninstall ;;
        --purge) purge=yes ;;
        --dry-run) dry=yes ;;
        -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) fail "unknown argument $1; see install.sh --help" ;;
    esac
    shift
done
case $prefix in
    /*) ;;
    *) fail "--prefix must be an absolute path, and is $prefix" ;;
esac
[ "$purge" = no ] || [ "$action" = uninstall ] || fail "--purge goes with --uninstall"

home=$prefix/lib/wharf
list=$home/installed

# Whether the service is ours to set up; the reason if not.
system=no
if [ "$prefix" != /usr/local ]; then
    why="the prefix is not /usr/local"
elif [ "$(id -u)" != 0 ]; then
    why="this is not root"
elif [ ! -d /run/systemd/system ]; then
    why="systemd does not run here"
else
    system=yes
    why=
fi

# put SOURCE TARGET MODE: one file, noted in the list.
put() {
    run install -D -m "$3" "$1" "$2"
    note "$2"
}

# link TEXT TARGET: one symbolic link, noted in the list.
link() {
    run mkdir -p "$(dirname "$2")"
    run ln -sf "$1" "$2"
    note "$2"
}

note() {
    if [ "$dry" = no ]; then printf '%s\n' "$1" >>"$list"; fi
}

install_files() {
    [ -f "$here/bin/wharf" ] || fail "$here/bin/wharf is not there: run this script from the unpacked archive"
    run mkdir -p "$home"
    # What an earlier version had and this one has not goes first.
    if [ -f "$list" ]; then remove_files; run mkdir -p "$home"; fi
    put "$here/bin/wharf" "$home/bin/wharf" 755
    for library in "$here"/lib/libonnxruntime.so.*.*; do
        put "$library" "$home/lib/$(basename "$library")" 644
    done
    for text in "$here"/licenses/*; do
        put "$text" "$home/licenses/$(basename "$text")" 644
    done
    link ../lib/wharf/bin/wharf "$prefix/bin/wharf"
    # Paths of manual pages and completions hold no spaces.
    for file in $(cd "$here/share" && find . -type f | sort); do
        put "$here/share/${file#./}" "$prefix/share/${file#./}" 644
    done
}

remove_files() {
    [ -f "$list" ] || fail "$list is not there: Wharf was not installed below $prefix by this script"
    while IFS= read -r file; do
        run rm -f "$file"
    done <"$list"
    run rm -f "$list"
    # Only what is empty now, and only what is ours.
    for folder in "$home/bin" "$home/lib" "$home/licenses" "$home"; do
        if [ "$dry" = no ] && [ -d "$folder" ]; then rmdir "$folder" 2>/dev/null || say "kept $folder: it is not empty"; fi
    done
}

install_service() {
    getent group wharf >/dev/null || run groupadd --system wharf
    getent passwd wharf >/dev/null ||
        run useradd --system --gid wharf --home-dir "$state" --no-create-home --shell /usr/sbin/nologin wharf
    # GPUs of a Jetson belong to these groups.
    for group in video render; do
        if getent group "$group" >/dev/null; then run usermod --append --groups "$group" wharf; fi
    done
    run install -d -o wharf -g wharf -m 0750 "$state"
    if [ -e "$defaults" ]; then
        say "kept $defaults: it is yours"
    else
        run install -D -m 644 "$here/systemd/default" "$defaults"
    fi
    run install -D -m 644 "$here/systemd/wharf.service" "$unit"
    run sed -i "s|^ExecStart=/usr/bin/wharf|ExecStart=$prefix/bin/wharf|" "$unit"
    run systemctl daemon-reload
    run systemctl enable wharf.service
    run systemctl restart wharf.service
    say "The service runs: systemctl status wharf"
    say "To use it as yourself: sudo usermod --append --groups wharf \$USER, and log in again; for docker's command line"
    say "  export DOCKER_HOST=unix://$state/wharf.sock"
}

remove_service() {
    if [ -e "$unit" ]; then
        run systemctl disable --now wharf.service
        run rm -f "$unit"
        run systemctl daemon-reload
    fi
    if [ "$purge" = no ]; then
        say "kept $state, $defaults and the user wharf: --purge deletes them"
        return
    fi
    run rm -rf "$state"
    run rm -f "$defaults"
    if getent passwd wharf >/dev/null; then run userdel wharf; fi
    if getent group wharf >/dev/null; then run groupdel wharf; fi
}

if [ "$action" = install ]; then
    install_files
    if [ "$system" = yes ]; then
        install_service
    else
        say "No service was set up, because $why. Start the host with: $prefix/bin/wharf serve"
    fi
    say "Installed below $prefix. To undo: $here/install.sh --uninstall --prefix $prefix"
else
    # The service first: its program must not vanish under it.
    if [ "$system" = yes ]; then remove_service; else say "No service is touched, because $why."; fi
    remove_files
    say "Removed from $prefix."
fi
