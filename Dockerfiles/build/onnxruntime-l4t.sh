#!/bin/sh
# onnxruntime-l4t.sh JETPACK VERSION [ARCHITECTURES]: ONNX Runtime of github.com/microsoft/onnxruntime, tag vVERSION, compiled
# with its CUDA and TensorRT providers for a Jetson's GPU, in /out. About 6 GB of memory for each job of the CUDA compiler,
# so one job for every 6 GB there are; hours on a Jetson, 40 minutes on a server with 20 cores.
set -eu
jetpack=$1
version=$2
architectures=${3:-}
if [ -z "$architectures" ]; then
    case $jetpack in
    6) architectures=87 ;;           # Orin
    7) architectures='87;110' ;;     # Orin (from JetPack 7.2), Thor
    *) echo "JETPACK is \"$jetpack\": 6 and 7 are built; name CUDA_ARCHITECTURES for another" >&2; exit 2 ;;
    esac
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y --no-install-recommends build-essential ca-certificates git python3 python3-dev python3-pip python3-venv
python3 -m venv /tools
/tools/bin/pip install --no-cache-dir 'cmake==3.31.6' 'ninja==1.11.1.4' 'packaging==25.0'
git clone --depth 1 --branch "v$version" --recurse-submodules --shallow-submodules \
    https://github.com/microsoft/onnxruntime.git /onnxruntime
cd /onnxruntime
jobs=$(awk '/MemTotal/ { jobs = int($2 / 6000000); print jobs > 0 ? jobs : 1 }' /proc/meminfo)
PATH=/tools/bin:$PATH ./build.sh --config Release --build_shared_lib --skip_tests --allow_running_as_root --parallel "$jobs" \
    --use_cuda --cuda_home /usr/local/cuda --cudnn_home /usr --use_tensorrt --tensorrt_home /usr \
    --cmake_extra_defines "CMAKE_CUDA_ARCHITECTURES=$architectures"
mkdir -p /out/lib /out/share/onnxruntime
cp build/Linux/Release/libonnxruntime.so."$version" build/Linux/Release/libonnxruntime_providers_*.so /out/lib/
cp LICENSE ThirdPartyNotices.txt /out/share/onnxruntime/
