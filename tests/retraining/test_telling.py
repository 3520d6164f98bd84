"""A local receiver in the place of a team's chat: one message for each cause."""

from __future__ import annotations

import errno
import socketserver
import threading
from email import message_from_bytes

import pytest
from nights import Receiver

from metaloom.config import load_settings
from metaloom.errors import MetaloomError
from metaloom.retraining.nights import DAY, Night
from metaloom.retraining.receivers import address
from metaloom.retraining.telling import tell, tell_failed, tell_quiet
from metaloom.system.lock import BusyError


@pytest.fixture
def settings(repo, receiver):
    url = f"http://127.0.0.1:{receiver.server_port}/hook"
    return load_settings(repo / "params.yaml", {"retrain.notify": url, "retrain.quiet_days": 7}).retrain


def causes() -> list[str]:
    return [each["cause"] for each in Receiver.taken]


def test_one_message_for_each_cause(settings, tmp_path):
    for commit in ("1234567", "89abcde"):
        tell(tmp_path, settings, "failed", f"the remote does not answer at {commit}")
    assert causes() == ["failed"]
    tell(tmp_path, settings, "failed", "the disk is full")
    tell(tmp_path, settings, "kept", "as good as the one before")  # nobody needs to know
    tell(tmp_path, settings, "failed", "the disk is full")  # again, after it had been well
    tell(tmp_path, settings, "promoted", "v0.0.2 is prod now")
    tell(tmp_path, settings, "held", "worse")
    assert causes() == ["failed", "failed", "failed", "promoted", "held"]
    assert Receiver.taken[-2] == {
        "text": "retrain: v0.0.2 is prod now",
        "cause": "promoted",
        "project": "retrain",
        "message": "v0.0.2 is prod now",
    }


@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        (ValueError("too few"), ValueError, "ValueError: too few"),
        (PermissionError(errno.EACCES, "Permission denied", "dvc.lock"), MetaloomError, "dvc.lock: permission denied"),
    ],
)
def test_whatever_ends_a_night_is_told(small, settings, error, raised, said):
    """A mistake of ours too, and what the system refuses is a line."""

    def refused(place, force):
        raise error

    small.set(notify=settings.notify)
    small.train = refused
    for _ in range(2):
        with pytest.raises(raised, match=said.removeprefix("ValueError: ")):
            small.night()
    (told,) = Receiver.taken
    assert told["cause"] == "failed" and told["message"].startswith(f"retraining failed: {said}")


def test_that_another_retraining_is_at_work_is_no_failure(settings, repo, tmp_path):
    text = (repo / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("  notify: null", f"  notify: {settings.notify}"))
    tell_failed(tmp_path, BusyError("another run is at work"))
    assert causes() == []
    tell_failed(tmp_path, MetaloomError("3 runs crashed within a day"))
    assert causes() == ["failed"]


def test_nothing_new_for_days_is_told_once(settings, tmp_path):
    Night("a", "k", "c", "d", 1.0, outcome="kept", ended=DAY).save(tmp_path)
    for day in (2, 7, 9, 12):
        tell_quiet(tmp_path, settings, day * DAY)
    assert [each["text"] for each in Receiver.taken] == ["retrain: for 8 days no retraining has brought anything new"]


def test_a_webhook_that_is_away_is_asked_again(settings, receiver, tmp_path, capsys):
    away = settings.model_copy(update={"notify": "http://127.0.0.1:1/"})
    assert not tell(tmp_path, away, "failed", "the disk is full")
    assert "nobody could be told: the webhook of retrain.notify does not take it" in capsys.readouterr().out
    assert tell(tmp_path, settings, "failed", "the disk is full") and causes() == ["failed"]


def test_where_the_address_stands(monkeypatch, settings, tmp_path, capsys):
    assert address(None) == ""
    monkeypatch.setenv("HOOK", "https://example.org/1")
    assert address("$HOOK") == "https://example.org/1"
    monkeypatch.delenv("HOOK")
    with pytest.raises(MetaloomError, match=r"^retrain.notify is \$HOOK, and the environment has no variable HOOK$"):
        address("$HOOK")
    with pytest.raises(MetaloomError, match="^retrain.notify is neither a URL that begins with https://"):
        address("file:///etc/passwd")
    assert not tell(tmp_path, settings.model_copy(update={"notify": "$HOOK"}), "held", "worse")
    assert "nobody could be told: retrain.notify is $HOOK" in capsys.readouterr().out


def told_by(settings, notify: str, root, message: str = "v0.0.2 is prod now") -> bool:
    return tell(root, settings.model_copy(update={"notify": notify}), "promoted", message)


@pytest.fixture
def blocks(prefect, receiver):
    """Blocks on a real server that send to the receiver: any address that Apprise knows, and a webhook of one's own."""
    from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook
    from prefect.blocks.system import Secret

    port = receiver.server_port
    SlackWebhook(url=f"json://127.0.0.1:{port}/hook").save("team", overwrite=True)
    own = {"name": "own", "json_data": {"what": "{{subject}}: {{body}}"}}
    CustomWebhookNotificationBlock(url=f"http://127.0.0.1:{port}/{{{{key}}}}", secrets={"key": "x"}, **own).save(
        "own", overwrite=True
    )
    CustomWebhookNotificationBlock(url="http://127.0.0.1:1/geheim", **own).save("away", overwrite=True)
    Secret(value="geheim").save("silent", overwrite=True)


def test_a_block_of_prefect_tells(settings, blocks, tmp_path, capsys):
    assert told_by(settings, "slack-webhook/team", tmp_path)
    assert Receiver.taken[0]["title"] == "metaloom retrain: promoted"
    assert Receiver.taken[0]["message"] == "retrain: v0.0.2 is prod now"
    assert told_by(settings, "custom-webhook/own", tmp_path)
    assert Receiver.taken[1] == {"what": "metaloom retrain: promoted: retrain: v0.0.2 is prod now"}
    for name, line in (
        ("custom-webhook/away", "the block custom-webhook/away of retrain.notify cannot send it (ConnectError)"),
        ("custom-webhook/none", "Prefect's server gives no block custom-webhook/none (ValueError)"),
        ("secret/silent", "retrain.notify is secret/silent, and that is no block that notifies"),
    ):
        assert not told_by(settings, name, tmp_path)
        out = capsys.readouterr().out
        assert out == f"nobody could be told: {line}\n" and "geheim" not in out


def test_a_block_needs_a_server(settings, monkeypatch, tmp_path, capsys):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert not told_by(settings, "slack-webhook/team", tmp_path)
    assert "a block of Prefect's server, and PREFECT_API_URL names none" in capsys.readouterr().out


class Mailbox(socketserver.StreamRequestHandler):
    """As much of SMTP as a client without a login needs."""

    taken: list[bytes] = []

    def handle(self):
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            if line.upper().startswith(b"DATA"):
                self.wfile.write(b"354 go on\r\n")
                self.taken.append(b"".join(iter(self.rfile.readline, b".\r\n")))
            self.wfile.write(b"250 well\r\n")


def test_a_mail(settings, tmp_path, capsys):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mailbox) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        url = f"mailto://127.0.0.1:{server.server_address[1]}?from=loom@example.org&to=team@example.org&format=text"
        assert told_by(settings, url, tmp_path)
        server.shutdown()
    mail = message_from_bytes(Mailbox.taken[0])
    assert "metaloom retrain: promoted" in str(mail["Subject"]) and mail["To"] == "team@example.org"
    assert mail.get_payload(decode=True).decode().strip() == "retrain: v0.0.2 is prod now"
    assert not told_by(settings, "mailto://127.0.0.1:1?from=loom@example.org&to=team@example.org", tmp_path)
    assert not told_by(settings, "mailtos://nobody", tmp_path)
    said = capsys.readouterr().out
    assert "the mail server of retrain.notify does not take it" in said and "no mail address that Apprise" in said


def test_a_name_is_text_in_a_mail_and_in_a_chat(settings, tmp_path):
    """Mail is HTML unless its URL says otherwise, and Slack takes what is between `<` and `>` for an order."""
    evil = "<img src=http://example.org/x>&amp; <!channel> \x1b[2J"
    tell(tmp_path / "chat", settings, "held", evil)
    assert Receiver.taken[0]["text"] == "retrain: ‹img src=http://example.org/x›&amp; ‹!channel› \\x1b[2J"
    assert Receiver.taken[0]["message"] == evil
    before = len(Mailbox.taken)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mailbox) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        url = f"mailto://127.0.0.1:{server.server_address[1]}?from=loom@example.org&to=team@example.org"
        tell(tmp_path / "mail", settings.model_copy(update={"notify": url}), "held", evil)
        server.shutdown()
    (mail,) = map(message_from_bytes, Mailbox.taken[before:])
    (page,) = (each for each in mail.walk() if each.get_content_type() == "text/html")
    text = page.get_payload(decode=True).decode()
    assert "<img" not in text and "&amp;amp;" in text


@pytest.mark.parametrize("notify", ["ftp://example.org", "team", "slack-webhook/", "$", "$A B"])
def test_what_is_no_receiver_is_refused_early(repo, notify):
    with pytest.raises(MetaloomError, match=r"retrain\.notify: is neither a URL"):
        load_settings(repo / "params.yaml", {"retrain.notify": notify})
