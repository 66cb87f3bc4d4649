"""The file that ``headrace init`` writes: every key with what it means. A key that is commented out has its default, or
where there is none an example.

What stands behind the keys is shown by editors too (deploy/file/schema.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from deploy.file import FILE

TEMPLATE = """\
#:schema {schema}
# A fleet of Headrace: headrace check {file} looks it over, headrace up -c {file} starts it.
# Durations are written "300ms", "10s", "5m", or as seconds. Relative paths start at the folder of this file.
# ${{NAME}} in a text is filled from the environment: "rtsp://viewer:${{CAM_PASSWORD}}@camera/stream".

# run = "nightly"               # names one run: a sink that starts again goes on only with files of the same run

[workers]                       # what runs the model
model = {model}                  # what it is to find: headrace models
# count = "auto"                # workers on this node: "auto", as many as its GPUs take, at least one; or a number
# per_gpu = 1                   # workers for each GPU, where count is "auto"
# device = "auto"               # "auto" (a GPU if there is one), "cpu", "cuda:0"
# threshold = 0.5               # least score of a finding; by default the model's own
# batch = 16                    # most frames in one batch
# wait = "10ms"                 # how long the first frame of a batch waits for more
# threads = 0                   # threads of one worker's inference; 0: all cores but two, divided by the workers

[broker]                        # hands frames out to workers
# frames = "tcp://10.0.0.1:7601"    # where producers send frames; by default a socket in the node's folder
# workers = "tcp://10.0.0.1:7602"   # where workers ask for work; needed where workers are on other nodes
# news = "tcp://10.0.0.1:7603"      # where producers hear how the broker is
# bind = "*"                    # listen at this interface, at the ports above: where their host is not this machine's
# heartbeat_timeout = "1.5s"    # a worker that is silent for so long is taken for dead
# max_attempts = 3              # failed or broken-off attempts after which a frame is given up
# queue_frames = 1024           # most frames queued for one stream
# queue_bytes = 268435456       # most bytes queued for one stream
# forget_stream = "1m"          # a stream that sends nothing for so long is forgotten

[sink]                          # draws, encodes and writes
# name = "sink"                 # short name that frames carry, so that workers know where results go
# media = "tcp://10.0.0.1:7604"     # where producers send packets; by default a socket in the node's folder
# results = "tcp://10.0.0.1:7605"   # where workers send results; needed where workers are on other nodes
# bind = "*"                    # as in [broker]
# producer_timeout = "30s"      # a stream's outputs are closed so long after its producer has gone
# disk_wait = "10m"             # lossless: how long a full disk is waited for

[defaults]                      # keys of all [[streams]] that do not have their own
# mode = "lossless"             # "lossless": each sampled frame is inferred; "live": none is waited for. By the source
# latency = "500ms"             # live: how long the sink waits for a frame's result
# every = 1                     # infer every n-th frame; the others show the last boxes
# fps = 10.0                    # infer at most so many frames a second; by default there is no limit
# send_size = "640x360"         # size of the picture for the model; by default the model's own input
# codec = "jpeg"                # how pictures travel to workers: "jpeg", or "i420" (raw)
# quality = 85                  # of that JPEG, 1 to 100
# carry = "1s"                  # how long boxes are shown on frames that were not inferred
# realtime = false              # files: read them no faster than they play
# loop = false                  # files: begin again at the end, for ever
# picture_rate = 25.0           # pictures a second of a folder of pictures
# transport = "tcp"             # RTSP packets over "tcp", or "udp" (less delay, losses)
# reconnect = true              # a live source that drops is opened again, for ever
# source_timeout = "5s"         # a live source without a picture for so long has dropped
# source_wait = 1000000.0       # how long a live source is tried that cannot be opened at the start
# placeholder = false           # live: show a picture that says so while the source is away
# placeholder_image = "away.jpg"    # live: show this picture then
# on_change = "fit"             # a live source that comes back with another size is fitted in, or begins a new "part"
# segment = "10m"               # begin a new file every so long; by default there is one
# window = 256                  # most frames that are under way; by default chosen by workers and batch
# window_bytes = 67108864       # most bytes that these hold
# in_flight = 96                # most frames with the model at a time; by default chosen by workers and batch
# decode_threads = 0            # decoder threads at both ends; 0: by picture size

# [defaults.encoding]           # how the annotated picture is encoded, once for all outputs
# encoder = "auto"              # "x264", "nvenc", or "auto": NVENC where it opens
# preset = "veryfast"           # x264's preset, "ultrafast" to "veryslow"
# crf = 23.0                    # quality, 0 to 51, lower is better
# tune = ""                     # x264's tune; by default "zerolatency" in live mode
# keyframe_interval = "2s"      # longest distance of two keyframes

[security]                      # keys for addresses beyond this machine: headrace keys new
# keys = "keys"                 # folder with this node's key files and the list of keys that are let in
# broker = "{key}"  # the broker's public key, where the broker is on another node
# sink = "{key}"    # the sink's public key, where the sink is on another node
# insecure = false              # allow addresses beyond this machine without keys, open to everybody

[metrics]                       # for Prometheus; the page serves them too
# listen = "0.0.0.0:9750"       # serve metrics and health alone at this address
# broker = 9751                 # the broker's own metrics at this loopback port
# sink = 9752                   # the sink's own metrics at this loopback port

[page]                          # what this node shows to a browser
# enabled = true                # serve it
# listen = "127.0.0.1:8750"     # where; beyond this machine it asks for the token
# token = "${{HEADRACE_TOKEN}}"   # lets somebody change things; by default one is made, in the node's folder

[node]                          # what headrace up keeps on this node
# name = "gate"                 # what others call this node; by default the name of its host
# folder = ".headrace"          # sockets, logs and state
# log_bytes = 10485760          # a part's log is turned over at so many bytes
# log_files = 5                 # and so many older ones are kept

[[streams]]                     # one for each source
name = {name}  # in logs, lines, metrics and on the page; by default made from the source
source = {source}  # a file, an address, a device, or a folder of pictures
outputs = {outputs}  # files, addresses, and folders for HLS
# model = "face"                # by default that of the workers
# ledger = "{stem}.ledger.json"   # what became of each frame; by default beside the first file
# Further keys: those of [defaults].
"""
#: A key with its value and what it means; the head of a table.
_KEY = re.compile(r"(?:# )?(\w+) = (.*?)(?:\s{2,}# (.*))?")
_HEAD = re.compile(r"(?:# )?\[\[?([\w.]+)\]\]?(?:\s+# (.*))?")


def filled(model: str, name: str, source: str, outputs: Sequence[str], schema: str, file: str = FILE) -> str:
    """The file, with a first stream."""
    return TEMPLATE.format(
        schema=schema,
        file=file,
        model=_text(model),
        name=_text(name),
        source=_text(source),
        outputs="[" + ", ".join(map(_text, outputs)) + "]",
        key="0123456789abcdefghijABCDEFGHIJ0123456789",
        stem=re.sub(r"[^\w-]", "-", name),
    )


def explained() -> Iterator[tuple[str, str, str, str]]:
    """Each key: (table, key, value as it is written, what it means). A head has no key."""
    table = ""
    for line in TEMPLATE.format(
        schema="-", file="-", model='"face"', name='"-"', source='"-"', outputs="[]", key="-" * 40, stem="-"
    ).splitlines():
        if found := _HEAD.fullmatch(line):
            table = found[1]
            yield table, "", "", found[2] or ""
        elif found := _KEY.fullmatch(line):
            yield table, found[1], found[2], found[3] or ""


def _text(text: str) -> str:
    """As TOML writes a text; ``${NAME}`` stays what it looks like."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
