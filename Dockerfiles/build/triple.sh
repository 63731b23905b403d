# Sourced with the architecture as $1: `arch` as Debian calls it, `gnu` and `triple` as compilers do, and cargo's variables.
arch=$1
case $arch in
amd64) gnu=x86-64-linux-gnu machine=x86_64 ;;
arm64) gnu=aarch64-linux-gnu machine=aarch64 ;;
*) echo "the architecture is \"$arch\": amd64 and arm64 are built" >&2; exit 2 ;;
esac
triple=$machine-unknown-linux-gnu
if [ "$arch" != "$(dpkg --print-architecture)" ]; then
    compiler=$machine-linux-gnu-gcc
    archiver=$machine-linux-gnu-ar
    case $arch in
    amd64) export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER="$compiler" CC_x86_64_unknown_linux_gnu="$compiler" AR_x86_64_unknown_linux_gnu="$archiver" ;;
    arm64) export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER="$compiler" CC_aarch64_unknown_linux_gnu="$compiler" AR_aarch64_unknown_linux_gnu="$archiver" ;;
    esac
fi
