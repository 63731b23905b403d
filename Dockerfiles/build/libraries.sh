#!/bin/sh
# libraries.sh ARCH: the root of an image that holds what the program and ONNX Runtime link, and nothing else, in /rootfs;
# the data folder in /state. Packages of ARCH are unpacked and never run, so that no emulator is needed.
set -eu
. "$(dirname "$0")/triple.sh"
dpkg --add-architecture "$arch"
apt-get update
apt-get install -y --no-install-recommends ca-certificates
mkdir -p /packages /unpacked /state/wharf
cd /packages
apt-get -o APT::Sandbox::User=root download "libc6:$arch" "libgcc-s1:$arch" "libstdc++6:$arch"
# It holds the licence of the compiler's two libraries; its name has the compiler's version in it.
apt-get -o APT::Sandbox::User=root download "$(dpkg-deb --field libgcc-s1_*.deb Depends | grep -o 'gcc-[0-9]*-base'):$arch"
rm -rf /var/lib/apt/lists/*
mkdir -p /rootfs/etc/ssl/certs /rootfs/srv/services /rootfs/tmp /rootfs/var/lib/dpkg/status.d
chmod 1777 /rootfs/tmp
for package in *.deb; do
    dpkg-deb --extract "$package" /unpacked
    # Where scanners look for the packages of an image without a package manager.
    dpkg-deb --field "$package" > "/rootfs/var/lib/dpkg/status.d/${package%%_*}"
done
cd /unpacked
find . \( -name 'ld-linux*.so*' -o -name 'libc.so.6' -o -name 'libm.so.6' -o -name 'libdl.so.2' -o -name 'librt.so.1' \
    -o -name 'libpthread.so.0' -o -name 'libresolv.so.2' -o -name 'libnss_dns.so.2' -o -name 'libnss_files.so.2' \
    -o -name 'libgcc_s.so.1' -o -name 'libstdc++.so.6*' -o -path './usr/share/doc/*/copyright' \) \
    \( -type f -o -type l \) -not -path '*/gdb/*' -exec cp --parents --no-dereference {} /rootfs/ \;
cp /etc/ssl/certs/ca-certificates.crt /rootfs/etc/ssl/certs/
echo 'hosts: files dns' > /rootfs/etc/nsswitch.conf
echo 'root:x:0:0:root:/:/nonexistent
wharf:x:65532:65532:wharf:/var/lib/wharf:/nonexistent' > /rootfs/etc/passwd
echo 'root:x:0:
wharf:x:65532:' > /rootfs/etc/group
rm -rf /packages /unpacked
