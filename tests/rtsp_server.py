"""An RTSP server for tests, run by Debian's own python3 (its GStreamer bindings): ``/usr/bin/python3 rtsp_server.py``.

``--file NAME=PATH``    play PATH at ``/NAME`` at its own speed, from its start for each reader, any codec
``--relay NAME``        publish H.264 and AAC to ``/in/NAME``, or H.264 alone to ``/quiet/NAME``; play it at ``/NAME``,
                        which is there while somebody publishes
``--stay``              when the publisher of a relay leaves, its readers stay connected and get nothing; else they are
                        told that the stream has ended
``--login USER:PASSWORD``  ask for this (basic)
``--port N``            0: any free one

Prints ``port N`` when it listens.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
gi.require_version("GstApp", "1.0")
from gi.repository import GLib, Gst, GstApp, GstRtspServer  # noqa: E402, F401

#: Frames that wait in the relay for a reader; more are dropped.
DEPTH = "max-buffers=100 drop=true emit-signals=true sync=false"
TAKE = {
    "v": "rtph264depay name=depay{n} ! h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream,"
    "alignment=au ! appsink name=v " + DEPTH,
    "a": "rtpmp4gdepay name=depay{n} ! aacparse ! audio/mpeg,stream-format=adts ! appsink name=a " + DEPTH,
}
GIVE = {
    "v": 'appsrc name=v is-live=true do-timestamp=true format=time caps="video/x-h264,stream-format=byte-stream,'
    'alignment=au" ! h264parse ! rtph264pay name=pay{n} pt=96',
    "a": 'appsrc name=a is-live=true do-timestamp=true format=time caps="audio/mpeg,mpegversion=4,stream-format=adts" '
    "! aacparse ! rtpmp4gpay name=pay{n} pt=97",
}


def launch(parts: dict[str, str], kinds: str) -> str:
    """A pipeline with one branch for each kind of track."""
    return "( " + " ".join(parts[kind].format(n=number) for number, kind in enumerate(kinds)) + " )"


class Relay:
    """What is published is played again, without being decoded."""

    def __init__(self, mounts: Any, name: str, stay: bool) -> None:
        self._mounts, self._name, self._stay = mounts, name, stay
        self._readers: dict[str, list[Any]] = {"v": [], "a": []}
        self._publishers = 0
        for folder, kinds in (("in", "va"), ("quiet", "v")):
            factory = GstRtspServer.RTSPMediaFactory()
            factory.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
            factory.set_launch(launch(TAKE, kinds))
            factory.set_latency(0)
            factory.connect("media-configure", self._published, kinds)
            mounts.add_factory(f"/{folder}/{name}", factory)

    def _published(self, _: Any, media: Any, kinds: str) -> None:
        self._publishers += 1
        if self._publishers == 1:
            factory = GstRtspServer.RTSPMediaFactory()
            # Not shared: a reader that comes while the last one leaves would be refused.
            factory.set_launch(launch(GIVE, kinds))
            factory.connect("media-configure", self._played, kinds)
            self._mounts.add_factory(f"/{self._name}", factory)
        for kind in kinds:
            media.get_element().get_by_name(kind).connect("new-sample", self._sample, kind)
        media.connect("unprepared", self._left)

    def _played(self, _: Any, media: Any, kinds: str) -> None:
        mine = [(kind, media.get_element().get_by_name(kind)) for kind in kinds]
        for kind, reader in mine:
            self._readers[kind].append(reader)

        def left(_: Any) -> None:
            for kind, reader in mine:
                if reader in self._readers[kind]:
                    self._readers[kind].remove(reader)

        media.connect("unprepared", left)

    def _sample(self, sink: Any, kind: str) -> Any:
        sample = sink.emit("pull-sample")
        for reader in list(self._readers[kind]):
            buffer = sample.get_buffer().copy()
            buffer.pts = buffer.dts = Gst.CLOCK_TIME_NONE  # stamped by arrival
            reader.emit("push-buffer", buffer)
        return Gst.FlowReturn.OK

    def _left(self, _: Any) -> None:
        self._publishers -= 1
        if self._publishers:
            return
        self._mounts.remove_factory(f"/{self._name}")
        if self._stay:
            return
        for readers in self._readers.values():
            for reader in readers:
                reader.emit("end-of-stream")
            readers.clear()


def ask_for(server: Any, factories: list[Any], login: str) -> None:
    """Let nobody in without ``login`` (user:password)."""
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(*login.split(":", 1)), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("user", "media.factory.access", True)
    permissions.add_permission_for_role("user", "media.factory.construct", True)
    for factory in factories:
        factory.set_permissions(permissions)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", default="0")
    parser.add_argument("--file", action="append", default=[])
    parser.add_argument("--relay", action="append", default=[])
    parser.add_argument("--stay", action="store_true")
    parser.add_argument("--login")
    options = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.get_thread_pool().set_max_threads(16)  # with fewer, publishers and readers wait for each other
    server.set_address("127.0.0.1")
    server.set_service(options.port)
    mounts = server.get_mount_points()
    files = []
    for one in options.file:
        name, _, path = one.partition("=")
        factory = GstRtspServer.RTSPMediaFactoryURI()
        factory.set_uri(Path(path).resolve().as_uri())
        mounts.add_factory(f"/{name}", factory)
        files.append(factory)
    relays = [Relay(mounts, name, options.stay) for name in options.relay]
    if options.login:
        ask_for(server, files, options.login)
    if not server.attach(None):
        raise SystemExit(f"port {options.port} is taken")
    print(f"port {server.get_bound_port()}", flush=True)
    GLib.MainLoop().run()
    del relays


if __name__ == "__main__":
    main()
