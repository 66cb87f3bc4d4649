"""``${NAME}`` in the file: where it is filled, what is told where it cannot be, and that values stay secret."""

from __future__ import annotations

import string
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import config
from common.errors import HeadraceError, UsageError
from common.masking import mask
from deploy.fleetfile import FleetFile
from deploy.roles import ALL

CAM = "[[streams]]\nsource = 'rtsp://me:${PW}@cam/door'\noutputs = ['udp://127.0.0.1:5000?key=${PW}']\n"


def node(folder: Path, text: str, **environment: str) -> config.Fleet:
    path = folder / "headrace.toml"
    path.write_text(text)
    return FleetFile(path, environment).node(folder, ALL, 0)


def test_texts_are_filled_wherever_they_stand(tmp_path: Path) -> None:
    text = """
        run = "${RUN}"
        [workers]
        model = "${MODEL:-echo}"
        count = "${COUNT}"
        batch = "${BATCH:-4}"
        [page]
        enabled = "${PAGE}"
        token = "${TOKEN}"
        [defaults]
        latency = "${LATENCY:-300ms}"
        placeholder = "${PAGE}"
        encoding = {crf = "${CRF}", preset = "${SPEED}fast"}
        [[streams]]
        name = "$${not filled} ${RUN}"
        source = "rtsp://${USER}:${PW}@${HOST}/door?x=${EMPTY}&y=${EMPTY:-none}"
        outputs = ["${WHERE}/a.ts", {path = "b.${KIND}", kind = "${KIND}"}]
        send_size = "${WIDTH}x360"
    """
    fleet = node(
        tmp_path, text, RUN="r1", COUNT="3", PAGE="false", TOKEN="sixteencharacters", CRF="30.5", SPEED="ultra",
        USER="me", PW="secret", HOST="cam", EMPTY="", WHERE=str(tmp_path), KIND="mkv", WIDTH="640",
    )  # fmt: skip
    (stream,) = fleet.streams
    assert (fleet.run, fleet.workers.model, fleet.workers.count, fleet.workers.batch) == ("r1", "echo", 3, 4)
    assert (fleet.page.enabled, fleet.page.token) == (False, "sixteencharacters")
    assert stream.source == "rtsp://me:secret@cam/door?x=&y=none"
    assert (stream.name, stream.latency, stream.placeholder) == ("${not filled} r1", 0.3, False)
    assert (stream.encoding.crf, stream.encoding.preset, stream.send_size) == (30.5, "ultrafast", (640, 360))
    assert [(one.path, one.kind) for one in stream.outputs] == [
        (f"{tmp_path}/a.ts", "ts"), (f"{tmp_path}/b.mkv", "mkv"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${PW}", ":2:9: workers.model = '${PW}': the environment has no variable PW: set it, or write ${PW:-else}"),
        ("a${PW}b${PW}", "workers.model = 'a${PW}b${PW}': the environment has no variable PW"),
        ("${}", "workers.model = '${}': ${} names no variable: write ${NAME}, or $${ for"),
        ("${A B}", "${A B} names no variable"),
        ("${A:+x}", "${A:+x} names no variable"),
        ("${PW", "workers.model = '${PW': ${PW names no variable"),
        ("${BYTES}", "workers.model = '${BYTES}': the variable BYTES is not UTF-8"),
    ],
)
def test_what_cannot_be_filled(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        node(tmp_path, f"[workers]\nmodel = '{text}'\n", BYTES="\udcff")
    assert words in str(raised.value)


def test_all_that_is_missing_is_told_by_check(tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text("[workers]\nmodel = '${A}'\n" + CAM)
    _, book = FleetFile(path, {}).check(ALL, 0)
    assert [(one.line, one.key) for one in book.sorted()] == [
        (2, "workers.model"), (4, "streams[0].source"), (5, "streams[0].outputs[0]"),
    ]  # fmt: skip


WRONG = [
    '[workers]\nmodel = "${PW}\\u0000"',
    "[workers]\nbatch = '${PW}'",
    "[workers]\ncount = '${PW}x'",
    "[workers]\nwait = '${PW}'",
    "[workers]\n[[streams]]\nsource = 'rtsp://cam/1'\noutputs = ['a.ts']\nmodel = '${PW}'",
    "[broker]\nframes = 'tcp://${PW}'",
    "[broker]\nworkers = 'tcp://${PW}.example:70000'",
    "[sink]\nresults = 'tcp://${PW}.example:7000'",
    "[sink]\nbind = 'x${PW}'",
    "[security]\nbroker = 'x ${PW}'",
    "[metrics]\nlisten = '${PW} x'",
    "[page]\ntoken = '${PW} x'",
    "[defaults]\nmode = '${PW}'",
    "[defaults]\nencoding = {preset = '${PW}'}",
    "[defaults]\nencoding = {tune = 'film,${PW}'}",
    "[[streams]]\nsource = '${PW}.mp4'\noutputs = ['a.ts']",
    "[[streams]]\nsource = 'rtsp://u:${PW}@cam/x'\noutputs = ['a.ts']\nloop = true",
    "[[streams]]\nsource = 'rtsp://u:${PW}@cam/x'\noutputs = ['none/${PW}/a.ts']",
    "[[streams]]\nsource = 'rtsp://cam/x'\noutputs = ['a.${PW}']",
    "[[streams]]\nsource = 'rtsp://cam/x'\noutputs = ['ftp://${PW}/x']",
    "[[streams]]\nsource = 'rtsp://cam/x'\noutputs = [{path = 'x', kind = '${PW}'}]",
    "[[streams]]\nsource = 'rtsp://cam/x'\noutputs = ['a.ts']\nplaceholder_image = '${PW}'",
    "[[streams]]\nsource = 'rtsp://cam/x'\noutputs = ['a.ts']\nsend_size = '${PW}'",
    "[[streams]]\nsource = 'rtsp://cam/x'\noutputs = ['${PW}.ts', '${PW}.ts']",
    "[[streams]]\nsource = '${PW}.mp4'\noutputs = ['a.ts']\n[[streams]]\nsource = '${PW}.mp4'\noutputs = ['b.ts']",
]
#: No secret that a message has by itself, and none that makes a name of a file too long or ends it.
SECRETS = st.text(string.ascii_letters + string.digits + "-_!'\"\\é😀@:#?", min_size=1, max_size=12).map(
    lambda text: f"Zq7{text}"
)


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("text", WRONG)
@given(secret=SECRETS)
def test_errors_do_not_tell_what_was_filled_in(tmp_path: Path, text: str, secret: str) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text(text)
    _, book = FleetFile(path, {"PW": secret}).check(ALL, 0)
    mistakes = book.sorted()
    assert mistakes, "it is wrong"
    assert not [str(one) for one in mistakes if "Zq7" in str(one)]
    with pytest.raises(HeadraceError) as raised:
        FleetFile(path, {"PW": secret}).node(tmp_path, ALL, 0)
    assert "Zq7" not in str(raised.value)


def test_a_short_secret_is_hidden_and_words_stay_whole(tmp_path: Path) -> None:
    with pytest.raises(HeadraceError) as raised:
        node(tmp_path, "[[streams]]\nsource = '/none/${PW}/a.mp4'\noutputs = ['b.ts']\n", PW="o")
    assert str(raised.value).endswith("source = '/none/${PW}/a.mp4': no such file: /none/${PW}/a.mp4")


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(lambda text: "%" not in text))
def test_any_password_can_stand_in_an_address(tmp_path_factory: pytest.TempPathFactory, password: str) -> None:
    (stream,) = node(tmp_path_factory.getbasetemp(), CAM.replace("?key=${PW}", ""), PW=password).streams
    login, _, rest = stream.source.removeprefix("rtsp://").rpartition("@")
    assert rest == "cam/door"
    assert unquote(login) == f"me:{password}"
    assert mask(stream.source) == "rtsp://***@cam/door"
    assert mask(f"cannot open {stream.source} (timeout)") == "cannot open rtsp://***@cam/door (timeout)"


def test_what_is_encoded_already_stays_so(tmp_path: Path) -> None:
    (stream,) = node(tmp_path, CAM, PW="p%40ss:w0rd!").streams
    assert stream.source == "rtsp://me:p%40ss:w0rd!@cam/door"
    assert mask(stream.outputs[0].path) == "udp://127.0.0.1:5000?key=***"


def test_a_stream_is_not_called_by_a_secret(tmp_path: Path) -> None:
    text = "[[streams]]\nsource = '%s'\noutputs = ['udp://127.0.0.1:5000']\n"
    for source, name in (
        ("http://cam/${SECRET}", "SECRET"),
        ("${CAM}", "CAM"),
        ("rtsp://u:${SECRET}@cam/door", "door"),
    ):
        (stream,) = node(tmp_path, text % source, SECRET="hushhush", CAM="rtsp://u:p@cam/hushhush").streams
        assert stream.name == name
