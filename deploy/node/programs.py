"""Supervisor's files for a node: one for itself, and one a part, so that each can come and go alone. Pure."""

from __future__ import annotations

import resource
import shlex
import sys
from pathlib import Path

from common.config import Node
from deploy.node.folder import NodeFolder
from deploy.node.plan import Part

#: So many files supervisord may have open, where it is allowed that many.
MAX_FILES = 4096


def supervisor_file(folder: NodeFolder, settings: Node) -> str:
    """``supervisord.conf``. The socket lets nobody in but us: it lies in a folder that is ours alone."""
    return f"""\
; Written by headrace up. What is changed here is lost; see headrace.toml.
[unix_http_server]
file = {folder.supervisor_socket}
chmod = 0700

[supervisord]
nodaemon = true
logfile = {folder.logs / "supervisord.log"}
logfile_maxbytes = {settings.log_bytes}
logfile_backups = {settings.log_files}
pidfile = {folder.path / "supervisord.pid"}
identifier = headrace
childlogdir = {folder.logs}
minfds = {_descriptors()}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = unix://{folder.supervisor_socket}

[include]
files = {folder.programs.name}/*.conf
"""


def _descriptors() -> int:
    """Three a part, and some for supervisor itself."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)


def program_file(part: Part, folder: NodeFolder, settings: Node, directory: Path) -> str:
    """One part. Its arguments and environment stand in parts.json: supervisor's files cannot hold every name."""
    command = shlex.join([sys.executable, "-m", "deploy.node.start", str(folder.path), part.program])
    restart = "unexpected" if part.final else "true"
    codes = ",".join(map(str, part.final)) or "0"
    return f"""\
; {part.program}, {part.digest}
[program:{part.program}]
command = {command.replace("%", "%%")}
directory = {str(directory).replace("%", "%%")}
priority = {part.priority}
autostart = true
autorestart = {restart}
exitcodes = {codes}
startsecs = {part.start_s}
startretries = 5
stopsignal = {part.stop_signal}
stopwaitsecs = {part.stop_s}
stdout_logfile = {folder.logs / part.program}.log
stdout_logfile_maxbytes = {settings.log_bytes}
stdout_logfile_backups = {settings.log_files}
redirect_stderr = true
environment = HEADRACE_DIGEST="{part.digest}"
"""
