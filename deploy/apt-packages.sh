#!/bin/sh
# Installs the Debian packages that are missing: "venv" what `make demo` needs, "test" what the tests need beside it.
# Does nothing where everything is there; needs root (or sudo) only where something is not.
set -eu

missing=""
need() { # need COMMAND PACKAGE
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need_file() { # need_file FILE PACKAGE
    [ -e "$1" ] || missing="$missing $2"
}

# What the tests' RTSP server uses, asked of Debian's own python3: it has no command that could be looked for.
gstreamer() {
    /usr/bin/python3 - <<'PYTHON' >/dev/null 2>&1
import sys
import gi
for name in ("Gst", "GstApp", "GstRtspServer"):
    gi.require_version(name, "1.0")
from gi.repository import Gst, GstApp, GstRtspServer
Gst.init(None)
elements = "appsrc appsink parsebin qtdemux rtpbin rtph264pay rtph264depay rtpmp4gpay rtpmp4gdepay aacparse h264parse"
sys.exit(not all(Gst.ElementFactory.find(name) for name in elements.split()))
PYTHON
}

case "${1:-test}" in
venv)
    need python3 python3
    python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || missing="$missing python3-venv"
    ;;
test)
    need ffmpeg ffmpeg
    need ffprobe ffmpeg
    need ip iproute2
    need nginx nginx
    need_file /usr/lib/nginx/modules/ngx_rtmp_module.so libnginx-mod-rtmp
    need srt-live-transmit srt-tools
    need chromium chromium
    need chromedriver chromium-driver
    gstreamer || missing="$missing python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base \
gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"
    ;;
*)
    echo "usage: $0 [venv|test]" >&2
    exit 2
    ;;
esac

[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "please install with your package manager:$missing" >&2
    exit 1
fi
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "run as root: apt-get install$missing" >&2; exit 1; }
    as_root=sudo
fi
echo "installing:$missing"
# The tests start servers of their own: none that comes with a package is to run now, or at the next boot.
policy=/usr/sbin/policy-rc.d
case "$missing" in
*nginx*)
    if [ ! -e "$policy" ] && [ ! -e /etc/init.d/nginx ]; then
        trap '$as_root rm -f "$policy"; $as_root update-rc.d nginx disable >/dev/null 2>&1 || :' EXIT
        printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
        $as_root chmod 755 "$policy"
    fi
    ;;
esac
$as_root apt-get update -q
# shellcheck disable=SC2086  # a list of words
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -q --no-install-recommends $missing
