"""A post office of our own: a real Postfix and a real Dovecot on this machine's loopback, in a folder that goes away.

Mail goes in at `smtp` or, encrypted and with a login, at `submission`. Where it ends depends on the domain:

    delinde.example              Dovecot, by LMTP; read by IMAP; bounces@ is another name of afmelden@
    pijp.delinde.example         /etc/aliases, which give it to the script of docs/intake.md
    buis.delinde.example         a pipe of master.cf to the same
    school0, school1.example     maildirs that Postfix writes itself; it knows who lives there
    school2.example              Dovecot, by LMTP; Postfix takes mail for anybody there, and hears later who isn't
    oud.example                  a server without SMTPUTF8

Nothing leaves the machine: any other domain is refused, and no name is looked up.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import trustme

from tests.post.grey import Greylist

ROOT = Path(__file__).parents[2]
MAIL_USER, PASSWORD = "afmelden@delinde.example", "geheim van de meester"
READERS = [f"lezer{number}@school{number % 3}.example" for number in range(1, 31)]
ELSEWHERE = ["jürgen@school1.example"]
OURS = [MAIL_USER, "kantoor@delinde.example"]


class Office:
    """Both servers, from `with` to its end.

    Attributes:
        folder: all of it. smtp, submission, imap: urls. greylist: what the servers ask before they take a message.
        owner: who the mailboxes belong to, and who runs the commands of the aliases.
    """

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise RuntimeError("Postfix and Dovecot are started by root only: run `make test-post`")
        for needed in ("postfix", "dovecot", "postalias"):
            if shutil.which(needed) is None:
                raise RuntimeError(f"{needed} is not installed: run `make test-post`, which asks apt for it")
        self.folder = Path(tempfile.mkdtemp(prefix="consentkit-post-"))
        self.owner = _who()
        self.python = _python(self.owner)
        self.greylist = Greylist()
        self._ports = _free_ports(4)
        smtp, submission, _, imap = self._ports
        self.smtp, self.submission = f"smtp://127.0.0.1:{smtp}", f"smtp://127.0.0.1:{submission}"
        self.imap = f"imap://127.0.0.1:{imap}/INBOX"
        self._dovecot: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder.chmod(0o755)
        for name in ("postfix", "dovecot", "mail", "queue", "data", "bin"):
            (self.folder / name).mkdir()
        shutil.chown(self.folder / "mail", self.owner.pw_name)
        shutil.chown(self.folder / "data", "postfix")
        self.greylist.start()
        try:
            self.install("consentkit", f'#!/bin/sh\nPYTHONPATH={_path()} exec {self.python} -m consentkit.cli "$@"\n')
            self._start_dovecot()
            self._start_postfix()
            for port in self._ports:
                self.until(lambda port=port: _answers(port), f"a server on port {port}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if (self.folder / "queue/pid/master.pid").exists():
            self._postfix("stop")
        if self._dovecot is not None:
            self._dovecot.terminate()
            self._dovecot.wait(10)
        self.greylist.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- what a test asks -----------------------------------------------------------------------------------------

    def box(self, address: str) -> list[bytes]:
        """The messages of a mailbox, as they lie on the disk."""
        local, _, domain = address.rpartition("@")
        box = self.folder / "mail" / domain / local / "Maildir"
        return [path.read_bytes() for part in ("new", "cur") for path in sorted((box / part).glob("*"))]

    def wait(self, address: str, count: int = 1) -> list[bytes]:
        """The same, once there are so many."""
        self.until(lambda: len(self.box(address)) >= count, f"{count} message(s) for {address}")
        return self.box(address)

    def queued(self) -> int:
        """How many messages Postfix still has."""
        parts = ("incoming", "active", "deferred", "maildrop", "hold")
        return sum(path.is_file() for part in parts for path in (self.folder / "queue" / part).rglob("*"))

    def settle(self) -> None:
        """Return once Postfix has delivered or bounced everything."""
        self.until(lambda: not self.queued(), "an empty queue")

    def flush(self) -> None:
        """Have Postfix try what it put off, now."""
        self._run("postqueue", "-c", str(self.folder / "postfix"), "-f")

    def install(self, name: str, program: str) -> None:
        """Put a program where the aliases and the pipe look for it."""
        path = self.folder / "bin" / name
        path.write_text(program, "utf-8")
        path.chmod(0o755)

    def shown(self, beginning: str) -> str:
        """What docs/intake.md shows that begins so, with the paths of this office."""
        page = (ROOT / "docs" / "intake.md").read_text("utf-8")
        (block,) = (one for one in re.findall(r"^```\w+\n(.*?)^```", page, re.M | re.S) if one.startswith(beginning))
        return block.replace("/usr/local/bin/", f"{self.folder}/bin/").replace("/usr/sbin/", f"{self.folder}/bin/")

    def empty(self) -> None:
        """Forget everything that came in."""
        self._run("postsuper", "-c", str(self.folder / "postfix"), "-d", "ALL")
        for box in (self.folder / "mail").glob("*/*/Maildir/*/*"):
            if box.parent.name in ("new", "cur"):
                box.unlink()
        self.greylist.forget()

    def log(self) -> str:
        """What both servers wrote down lately."""
        files = (self.folder / "maillog", self.folder / "dovecot.log")
        return "".join(path.read_text("utf-8", "replace")[-8_000:] for path in files if path.exists())

    def until(self, what: Callable[[], object], named: str, seconds: float = 30.0) -> None:
        """Return once something is so."""
        end = time.monotonic() + seconds
        while not what():
            if time.monotonic() > end:
                raise TimeoutError(
                    f"after {seconds} seconds there is not yet {named}; the servers wrote:\n{self.log()}"
                )
            time.sleep(0.02)

    # -- the servers ----------------------------------------------------------------------------------------------

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}\n{self.log()}")

    def _postfix(self, verb: str) -> None:
        self._run("postfix", "-c", str(self.folder / "postfix"), verb)

    def _start_postfix(self) -> None:
        folder = self.folder / "postfix"
        smtp, submission, old, _ = self._ports
        authority = trustme.CA()
        authority.issue_cert("mail.delinde.example").private_key_and_cert_chain_pem.write_to_path(folder / "tls.pem")
        boxes = [address for address in [*READERS, *ELSEWHERE, *OURS] if not address.endswith("school2.example")]
        lines = (f"{one} {one.partition('@')[2]}/{one.partition('@')[0]}/Maildir/" for one in boxes)
        (folder / "boxes").write_text("\n".join(lines), "utf-8")
        (folder / "transport").write_text(
            f"delinde.example lmtp:unix:{self.folder}/dovecot/run/lmtp\n"
            f"school2.example lmtp:unix:{self.folder}/dovecot/run/lmtp\n"
            "buis.delinde.example afmelden:\n"
            f"oud.example smtp:[127.0.0.1]:{old}\n",
            "utf-8",
        )
        (folder / "main.cf").write_text(MAIN.format(**self._names(), greylist=self.greylist.port), "utf-8")
        (folder / "master.cf").write_text(MASTER.format(smtp=smtp, submission=submission, old=old), "utf-8")
        with (folder / "master.cf").open("a", encoding="utf-8") as master:
            master.write(self.shown("afmelden unix").replace("user=site", f"user={self.owner.pw_name}"))
        (folder / "aliases").write_text(self.shown("afmelden:"), "utf-8")
        self._run("postalias", "-c", str(folder), f"hash:{folder}/aliases")
        self._postfix("start")

    def _start_dovecot(self) -> None:
        people = [address for address in [*READERS, *OURS] if address.endswith(("school2.example", "@delinde.example"))]
        users = self.folder / "dovecot" / "users"
        users.write_text("".join(f"{one}:{{PLAIN}}{PASSWORD}\n" for one in people), "utf-8")
        config = self.folder / "dovecot" / "dovecot.conf"
        version = subprocess.run(["dovecot", "--version"], capture_output=True, text=True, check=True).stdout
        head = DOVECOT_2_3 if version.startswith("2.3.") else DOVECOT_2_4
        config.write_text((head + DOVECOT).format(**self._names(), imap=self._ports[3]), "utf-8")
        self._dovecot = subprocess.Popen(["dovecot", "-F", "-c", str(config)], stderr=subprocess.DEVNULL)

    def _names(self) -> dict[str, object]:
        return {"folder": self.folder, "owner": self.owner.pw_name, "uid": self.owner.pw_uid, "gid": self.owner.pw_gid}


def _who() -> pwd.struct_passwd:
    """Whoever this checkout belongs to, who can read it; `nobody` where that is root, as commands never run as root."""
    owner = os.stat(sys.prefix).st_uid  # noqa: PTH116
    return pwd.getpwuid(owner) if owner else pwd.getpwnam("nobody")


def _python(owner: pwd.struct_passwd) -> str:
    """A Python like this one that the owner may run: this one often is root's alone."""
    for python in (sys.executable, "/usr/bin/python{}.{}".format(*sys.version_info)):
        try:
            subprocess.run([python, "-c", ""], user=owner.pw_uid, group=owner.pw_gid, extra_groups=[], check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    raise RuntimeError(f"{owner.pw_name} can't run {sys.executable}: put Python where everybody may")


def _path() -> str:
    return ":".join([str(ROOT), *(entry for entry in sys.path if entry.endswith("-packages"))])


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            return bool(connection.recv(1))
    except OSError:
        return False


MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/maillog
maillog_file_prefixes = {folder}
myhostname = mail.delinde.example
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtp_dns_support_level = disabled
smtpd_peername_lookup = no
default_transport = error:this post office serves nobody else
biff = no

recipient_delimiter = +

mydestination = pijp.delinde.example
alias_maps = hash:{folder}/postfix/aliases
local_recipient_maps = $alias_maps
default_privs = {owner}

virtual_alias_maps = inline:{{ bounces@delinde.example=afmelden@delinde.example }}
virtual_mailbox_domains = delinde.example, school0.example, school1.example
virtual_mailbox_maps = texthash:{folder}/postfix/boxes
virtual_mailbox_base = {folder}/mail
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
relay_domains = school2.example, oud.example, buis.delinde.example
afmelden_destination_recipient_limit = 1
transport_maps = texthash:{folder}/postfix/transport

smtpd_relay_restrictions = reject_unauth_destination
smtpd_recipient_restrictions = reject_unlisted_recipient, check_policy_service inet:127.0.0.1:{greylist}
smtpd_error_sleep_time = 0
smtpd_hard_error_limit = 6
smtpd_tls_chain_files = {folder}/postfix/tls.pem
smtpd_tls_security_level = none
smtpd_sasl_type = dovecot
smtpd_sasl_path = {folder}/dovecot/run/auth
"""

MASTER = """
127.0.0.1:{smtp} inet n - n - - smtpd
127.0.0.1:{submission} inet n - n - - smtpd
  -o smtpd_tls_security_level=encrypt
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_tls_auth_only=yes
  -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject
127.0.0.1:{old} inet n - n - - smtpd
  -o smtputf8_enable=no
  -o relay_domains=
  -o virtual_mailbox_domains=oud.example
  -o transport_maps=
  -o smtpd_recipient_restrictions=
pickup unix n - n 1 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

DOVECOT_2_3 = """
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
passdb {{
  driver = passwd-file
  args = {folder}/dovecot/users
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/mail/%d/%n
}}
"""

DOVECOT_2_4 = """
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
auth_allow_cleartext = yes
mail_driver = maildir
mail_path = ~/Maildir
passdb passwd-file {{
  passwd_file_path = {folder}/dovecot/users
}}
userdb static {{
  fields {{
    uid = {uid}
    gid = {gid}
    home = {folder}/mail/%{{user | domain}}/%{{user | username}}
  }}
}}
"""

DOVECOT = """
base_dir = {folder}/dovecot/run
state_dir = {folder}/dovecot
log_path = {folder}/dovecot.log
protocols = imap lmtp
listen = 127.0.0.1
ssl = no
first_valid_uid = 1
recipient_delimiter = +
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service lmtp {{
  unix_listener lmtp {{
    mode = 0666
  }}
}}
service auth {{
  unix_listener auth {{
    mode = 0666
  }}
}}
"""
