"""Alerts: what they say, where they go, and that nobody waits for a target."""

from __future__ import annotations

import asyncio
import http.server
import json
import logging
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import dask
import pytest
from builders import MiB, added, died, executing, removed, reported

from dask_memdash import MemDash, config
from dask_memdash.errors import ConfigError
from dask_memdash.notify.alerts import Alerts
from dask_memdash.notify.message import slack
from dask_memdash.notify.sender import MOST_WAITING, Sender
from dask_memdash.notify.targets import Command, Log, Webhook, targets_of
from dask_memdash.redact import in_text, without_path, without_secrets
from dask_memdash.store.live import LiveStore

SECRET = "T0KEN"
SCHEDULER = {"id": "Scheduler-1", "address": "tcp://10.0.0.9:8786"}


def until(condition, what, timeout=20):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.005)


# -- what may be shown ---------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/runs", "s3://bucket/runs"),
        ("https://me:secret@host/runs?token=x", "https://host/runs"),
        ("s3://key:se/cr+et@bucket/runs", "s3://bucket/runs"),
        ("redis://:pass@word@host:1/0", "redis://host:1/0"),
        ("https://token@host/a", "https://host/a"),
        ("s3://bucket/user@host/x", "s3://bucket/user@host/x"),
        ("https://host/a#token", "https://host/a"),
        ("/a/path@b", "/a/path@b"),
    ],
)
def test_an_address_is_shown_without_secrets(url, shown):
    assert without_secrets(url) == shown
    assert in_text(f"no: '{url}' failed") == f"no: '{shown}' failed"


@pytest.mark.parametrize(
    "url",
    [
        f"https://hooks.slack.com/services/{SECRET}",
        f"https://host?{SECRET}",
        f"https://me:{SECRET}@host:8443/x",
        f"https://host\\{SECRET}",
    ],
)
def test_of_a_webhook_only_the_host_is_shown(url):
    assert SECRET not in without_path(url)
    assert "host" in without_path(url) or "hooks.slack.com" in without_path(url)


TARGETS = [
    f"https://hooks.slack.com/services/{SECRET}",
    {"webhook": f"https://h/{SECRET}", "headers": {"Authorization": SECRET}},
    {"command": ["/opt/page", "--token", SECRET]},
    "log",
]


def test_no_secret_is_in_any_text_about_settings_or_plugin():
    plugin = MemDash(notify=TARGETS, record=f"s3://key:{SECRET}@bucket/runs")
    settings = config.load(plugin._overrides)
    texts = [repr(plugin), repr(settings), repr(settings.notify_targets)]
    texts += [repr(settings.shown()), str(settings.to_dict())]
    assert not [text for text in texts if SECRET in text]
    assert "s3://bucket/runs" in texts[0]
    assert settings.shown()["notify_targets"] == [
        "webhook https://hooks.slack.com/…",
        "webhook https://h/…",
        "command page",
        "log",
    ]


def test_addresses_are_not_sent_to_workers():
    overrides = {"notify.targets": TARGETS, "record.to": f"s3://k:{SECRET}@b"}
    settings = config.load(overrides)
    assert settings.record_to == f"s3://k:{SECRET}@b"
    assert settings.to_dict()["record_to"] is None
    assert config.Settings.from_dict(settings.to_dict()).notify_targets == ()


def test_a_fault_is_told_without_the_secrets_of_its_error(process_border, caplog):
    try:
        raise OSError(f"cannot write s3://key:{SECRET}@bucket/runs?x={SECRET}")
    except OSError as error:
        process_border.note("recording", error)
    assert SECRET not in process_border.texts()[0] + caplog.text
    assert "s3://bucket/runs" in process_border.texts()[0]


# -- configuration -------------------------------------------------------------


def test_targets_are_read_in_every_form():
    assert targets_of(TARGETS) == (
        Webhook(f"https://hooks.slack.com/services/{SECRET}", "slack"),
        Webhook(f"https://h/{SECRET}", "json", (("Authorization", SECRET),)),
        Command(("/opt/page", "--token", SECRET)),
        Log(logging.WARNING),
    )
    assert targets_of("https://h/x") == (Webhook("https://h/x"),)
    assert targets_of({"log": "error"}) == (Log(logging.ERROR),)
    assert targets_of(None) == ()


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        (5, "it is a int, no list"),
        (["log", 5], "target 2: it is neither a text nor a mapping"),
        ([f"ftp://{SECRET}"], "target 1: webhook must begin with http:// or https://"),
        ([f"https:///{SECRET}"], "name a host"),
        ([f"https://h:x{SECRET}/"], "name a host"),
        ([f"https://h/{SECRET}\nHost: x"], "webhook must be an address in one piece"),
        ([{}], "it must have one of webhook, command, log"),
        ([{"webhook": "https://h", "log": "error"}], "it must have one of"),
        ([{"webhook": "https://h", "formt": "slack"}], "'formt' is none of"),
        ([{"webhook": "https://h", "format": "xml"}], "format must be one of"),
        ([{"webhook": "https://h", "headers": [1]}], "headers must be a mapping"),
        ([{"webhook": "https://h", "headers": {"A": f"{SECRET}\r\nB: c"}}], "one line"),
        ([{"webhook": "https://h", "headers": {"A:": "x"}}], "must be one word"),
        ([{"command": f"page {SECRET}"}], "command must be a list: the program"),
        ([{"command": []}], "command must be a list: the program"),
        ([{"command": ["page", 5]}], "command must be a list of texts"),
        ([{"log": "loud"}], "log must be one of debug, info"),
        (["log"] * 21, "it has 21 targets; 20 is the most"),
    ],
)
def test_a_wrong_target_is_told_by_its_setting_and_shows_no_secret(value, wrong):
    with pytest.raises(ConfigError) as raised:
        config.load({"notify.targets": value})
    text = str(raised.value)
    assert text.startswith("memdash.notify.targets is not usable (")
    assert wrong in text
    assert SECRET not in text


def test_a_wrong_setting_costs_that_setting_alone(process_border):
    wrong = {"page.refresh": "2s", "notify": {"targets": [7]}, "nonsense": 1}
    with dask.config.set({"memdash": wrong}):
        settings, errors = config.load_usable({"run": 5, "record.run": "nightly"})
        assert sorted(error.key for error in errors) == [
            *("nonsense", "notify.targets", "run"),
        ]
        plugin = MemDash()
        assert plugin._settings() == config.replace(config.defaults(), page_refresh=2.0)
    assert settings.page_refresh == 2.0
    assert settings.record_run == "nightly"
    assert settings.notify_targets == ()
    told = " ".join(process_border.texts())
    assert "reading memdash.notify.targets (its default is used)" in told
    assert "target 1: it is neither a text nor a mapping" in told


def test_the_environment_may_name_one_target(monkeypatch):
    monkeypatch.setenv("DASK_MEMDASH__NOTIFY__TARGETS", "https://h/x")
    with dask.config.set(dask.config.collect_env()):
        assert config.load().notify_targets == (Webhook("https://h/x"),)


# -- what is told, and how often -----------------------------------------------


class Taken(list):
    send = list.append


@pytest.fixture
def store(model):
    task = executing("sum-1", 700 * MiB)
    live = {"live": 700 * MiB, "busy": True, "base": 80 * MiB}
    for event in (
        added(nanny=True),
        reported(rss=900 * MiB, executing=(task,), reading=live),
        removed(),
        died(by="nanny", executing=(task,), signal=None, code=1),
    ):
        model.handle(event)
    return LiveStore(model)


def alerts_of(store, most=20):
    taken, clock = Taken(), [1000.0]
    return Alerts(store, taken, most, SCHEDULER, clock=lambda: clock[0]), taken, clock


def test_an_alert_says_what_happened_who_did_it_and_what_to_change(store):
    alerts, taken, _ = alerts_of(store)
    page = "http://h:8787/memdash#failure-1"
    alerts.told("failure-opened", store.failure("1"), page)
    (alert,) = taken
    lines = alert["text"].splitlines()
    assert lines[0].startswith("A Dask computation fails. A worker died (")
    assert lines[1].startswith("Why: ")
    assert lines[2].startswith("Responsible: tasks `sum` (")
    assert lines[3].startswith("What to change: ")
    assert lines[4] == f"More: {page}"
    assert alert["event"] == "failure-opened"
    assert alert["id"] == "Scheduler-1/1/failure-opened"
    assert alert["scheduler"] == SCHEDULER
    assert alert["failure"]["responsible"]["prefix"] == "sum"
    assert alert["failure"]["cause"] == store.failure("1")["diagnosis"]["cause"]
    assert json.loads(json.dumps(alert)) == alert


def test_each_event_of_a_failure_is_told_once(store):
    alerts, taken, _ = alerts_of(store)
    failure = store.failure("1")
    for event in ("failure-opened", "failure-opened", "failure-closed") * 2:
        alerts.told(event, failure, None)
    assert [alert["event"] for alert in taken] == ["failure-opened", "failure-closed"]
    assert taken[1]["text"].startswith("A failure on a Dask cluster is over.")
    assert "More:" not in taken[0]["text"]


def test_of_too_many_the_rest_is_left_out_and_counted(store):
    alerts, taken, clock = alerts_of(store, most=2)
    failure = store.failure("1")
    for number in "12345":
        alerts.told("failure-opened", {**failure, "id": number}, None)
    alerts.told("failure-closed", {**failure, "id": "5"}, None)
    assert [alert["failure"]["id"] for alert in taken] == ["1", "2"]
    alerts.told("failure-closed", {**failure, "id": "1"}, None)
    assert taken[-1]["left_out"] == 3
    assert "3 earlier alerts were left out" in taken[-1]["text"]
    clock[0] += 3601
    alerts.told("failure-opened", {**failure, "id": "6"}, None)
    assert taken[-1]["failure"]["id"] == "6"
    assert taken[-1]["left_out"] == 0


def test_names_of_tasks_call_nobody_and_link_nowhere_on_slack():
    text = slack({"text": "`<!channel> @all <http://evil|x> a&b`"})["text"]
    assert text == ("`&lt;!channel&gt; @\u200ball &lt;http://evil|x&gt; a&amp;b`")


# -- a real server ---------------------------------------------------------------


class Endpoint:
    """A web server that answers as it is told to, request by request."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.got = []
        self.released = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                length = int(self.headers["Content-Length"])
                body = json.loads(self.rfile.read(length))
                outer.got.append((self.path, dict(self.headers), body))
                answer = outer.answers.pop(0) if outer.answers else 200
                if answer == "hang":
                    outer.released.wait(30)
                elif answer == "drip":
                    self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                    while not outer.released.wait(0.05):
                        try:
                            self.wfile.write(b"X: y\r\n")
                        except OSError:
                            return
                elif answer == "close":
                    self.close_connection = True
                else:
                    status, headers = (
                        answer if isinstance(answer, tuple) else (answer, {})
                    )
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/{SECRET}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def endpoint():
    made = []

    def make(*answers):
        made.append(Endpoint(*answers))
        return made[-1]

    yield make
    for one in made:
        one.close()


@contextmanager
def sending(*targets, patience=5.0, **more):
    sender = Sender(targets_of(list(targets)), patience, first_rest=0.01, **more)
    yield sender
    asyncio.run(sender.close(grace=0))
    until(
        lambda: not any("MemDash" in t.name for t in threading.enumerate()),
        "the thread to end",
    )


ALERT = {"id": "s/1/failure-opened", "text": "A computation fails.", "left_out": 0}


def test_a_webhook_gets_json_with_its_headers_and_no_thread_is_left(endpoint):
    server = endpoint()
    target = {"webhook": server.url, "headers": {"Authorization": "Bearer x"}}
    with sending(target) as sender:
        sender.send(ALERT)
        until(lambda: sender._boxes[0].sent, "the alert to arrive")
        until(lambda: sender._thread is None, "the thread to end by itself")
        sender.send(ALERT)
        until(lambda: len(server.got) == 2, "the second one")
    path, headers, body = server.got[0]
    assert (path, body) == (f"/{SECRET}", ALERT)
    assert headers["Authorization"] == "Bearer x"
    assert headers["Content-Type"] == "application/json"
    assert headers["Idempotency-Key"] == ALERT["id"]


def test_slack_gets_a_text(endpoint):
    server = endpoint()
    with sending({"webhook": server.url, "format": "slack"}) as sender:
        sender.send(ALERT)
        until(lambda: server.got, "the alert to arrive")
    assert server.got[0][2] == {"text": "A computation fails."}


@pytest.mark.parametrize("first", [500, 503, (429, {"Retry-After": "0"}), "close"])
def test_what_fails_is_tried_again_until_it_arrives(endpoint, first):
    server = endpoint(first, first)
    with sending(server.url) as sender:
        sender.send(ALERT)
        until(lambda: sender._boxes[0].sent == 1, "the alert to arrive")
        assert sender.texts() == ()
    assert [body for _, _, body in server.got] == [ALERT] * 3


@pytest.mark.parametrize(
    "answer", [400, 404, (302, {"Location": "http://127.0.0.1:1"})]
)
def test_what_is_refused_is_told_and_not_tried_again(endpoint, answer):
    server = endpoint(answer, 200)
    with sending(server.url) as sender:
        sender.send(ALERT)
        until(lambda: sender._boxes[0].lost, "the alert to be given up")
        (told,) = sender.texts()
        sender.send(ALERT)
        until(lambda: sender._boxes[0].sent, "the next one to arrive")
        (later,) = sender.texts()
    status = answer[0] if isinstance(answer, tuple) else answer
    place = without_path(server.url)
    assert told == (
        f"Alerts do not reach the webhook {place}: it answers {status}; "
        "1 alert did not arrive."
    )
    assert later == f"1 alert did not reach the webhook {place}; the last one did."
    assert len(server.got) == 2


def test_a_dead_target_is_given_up_and_others_are_not_kept_waiting(endpoint):
    dead, server = endpoint(), endpoint()
    url = dead.url
    dead.close()
    with sending(url, server.url) as sender:
        for number in range(5):
            sender.send({**ALERT, "id": str(number)})
        until(lambda: len(server.got) == 5, "the other's alerts to arrive")
        until(lambda: sender._boxes[0].lost, "the first to be given up", 60)
        assert "does not answer (ConnectionRefusedError)" in sender.texts()[0]
        assert SECRET not in sender.texts()[0]
    assert [body["id"] for _, _, body in server.got] == list("01234")


def test_a_hanging_target_costs_its_patience_and_no_other_alert(endpoint):
    hanging, server = endpoint("hang"), endpoint()
    with sending(hanging.url, server.url, patience=0.3) as sender:
        sender.send(ALERT)
        until(lambda: server.got, "the other's alert")
        until(lambda: sender._boxes[0].sent, "the second try to arrive")
    assert len(hanging.got) == 2


def test_one_that_talks_for_ever_is_cut_short(endpoint):
    server = endpoint("drip")
    with sending(server.url, patience=0.3) as sender:
        sender.send(ALERT)
        until(lambda: server.got, "the try to begin")
        # It said 200 before it went on and on.
        until(lambda: sender.look() or sender._boxes[0].sent, "the try to end")
    assert len(server.got) == 1


def test_closing_waits_for_nobody_that_hangs(endpoint):
    server = endpoint("hang")
    sender = Sender(targets_of(server.url), 60.0)
    sender.send(ALERT)
    until(lambda: server.got, "the try to begin")
    asyncio.run(sender.close(grace=0.05))
    until(lambda: sender._thread is None, "the thread to end")
    assert not server.released.is_set()


def test_closing_lets_what_is_new_arrive(endpoint):
    server = endpoint()
    sender = Sender(targets_of(server.url), 5.0)

    async def close():
        sender.send(ALERT)
        await sender.close(grace=10)

    asyncio.run(close())
    assert len(server.got) == 1
    sender.send(ALERT)  # after that, nothing is sent
    assert sender._thread is None


def test_what_waits_is_bounded(endpoint):
    server = endpoint("hang")
    with sending(server.url) as sender:
        for number in range(MOST_WAITING + 10):
            sender.send({**ALERT, "id": str(number)})
        assert len(sender._boxes[0].waiting) == MOST_WAITING
        assert sender._boxes[0].lost == 10
        server.released.set()


# -- commands, and the log -----------------------------------------------------

READS = "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())"


def test_a_command_gets_the_json_and_its_arguments_as_they_are(tmp_path):
    path = tmp_path / "$(touch x); got"
    with sending({"command": [sys.executable, "-c", READS, str(path)]}) as sender:
        sender.send(ALERT)
        until(lambda: sender._boxes[0].sent, "the command to end")
    assert json.loads(path.read_text()) == ALERT
    assert [p.name for p in tmp_path.iterdir()] == ["$(touch x); got"]


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path):
    path = tmp_path / "pid"
    script = f"sleep 600 & echo $! > {path}; wait"
    with sending({"command": ["sh", "-c", script]}, patience=1.0) as sender:
        sender.send(ALERT)
        until(lambda: sender._boxes[0].lost, "the command to be killed")
        assert sender.texts() == (
            "Alerts do not reach the command sh: it did not end within 1 s, and was "
            "killed; 1 alert did not arrive.",
        )

    def gone():
        try:
            text = Path(f"/proc/{int(path.read_text())}/stat").read_text()
        except OSError:
            return True
        return text.rpartition(")")[2].split()[0] == "Z"

    until(gone, "the child to be gone")


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        (["/no/such/program"], "command program: it cannot be started"),
        (["sh", "-c", "exit 3"], "command sh: it ended with status 3"),
    ],
)
def test_a_command_that_fails_is_told(command, wrong):
    with sending({"command": command}) as sender:
        sender.send(ALERT)
        until(lambda: sender._boxes[0].lost, "the alert to be given up", 60)
        assert wrong in sender.texts()[0]


def test_the_log_gets_the_text(caplog):
    with sending({"log": "error"}) as sender:
        sender.send(ALERT)
        until(lambda: caplog.records, "the line")
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("dask_memdash.alerts", "ERROR")
    assert record.getMessage() == ALERT["text"]


def test_what_nobody_thought_of_is_told_and_the_thread_goes_on(process_border):
    class Breaks:
        def __init__(self, patience):
            self.calls = 0

        def bring(self, target, alert):
            self.calls += 1
            if self.calls == 1:
                raise LookupError("no")

        def cut_short(self):
            pass

    with sending("log", delivery=Breaks) as sender:
        sender.send(ALERT)
        sender.send(ALERT)
        until(lambda: sender._boxes[0].sent == 1, "the second one")
    assert sender._boxes[0].lost == 1
    assert "sending an alert" in process_border.texts()[0]
