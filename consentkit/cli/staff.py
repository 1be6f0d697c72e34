"""`consentkit staff`: who may log in to the console. What is typed here is in its log too."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from consentkit.cli.output import JsonOption, data, opened_kit, say, table
from consentkit.errors import ConsentKitError
from consentkit.staff import COMMAND_LINE, Account, Given, Role, read_roles

app = typer.Typer(help="The staff of the console: add, list, disable, enable, reset.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="What the log calls them; no e-mail address.")]


@app.command()
def add(
    context: typer.Context,
    name: Name,
    role: Annotated[list[str], typer.Option(help="redactie, verzenden, privacy or beheer; give it again for more.")],
    password: Annotated[
        str | None, typer.Option(help="- reads it from standard input; else one is made and printed once.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Add an account. A password that is made here has to be changed at the first log-in."""
    try:
        roles = read_roles(role)
    except ValueError as error:
        raise ConsentKitError(str(error)) from error
    if password not in (None, "-"):
        raise ConsentKitError("a password on the command line stays in the shell's history: write --password -")
    chosen = sys.stdin.readline().rstrip("\r\n") if password else None
    with opened_kit(context) as kit:
        given = kit.accounts.add(name, roles, chosen, by=COMMAND_LINE)
    if json:
        data({"name": given.name, "roles": _names(roles), "password": given.password or None})
    else:
        say(f"was added: {given.name}, {', '.join(_names(roles))}")
        _say_password(given)


@app.command("list")
def list_(context: typer.Context, json: JsonOption = False) -> None:
    """Every account, its roles and its state."""
    with opened_kit(context) as kit:
        accounts = kit.accounts.list()
    if json:
        for each in accounts:
            data(_told(each))
    elif accounts:
        header = {key: key.replace("_", " ") for key in _told(accounts[0])}
        table([header, *({key: _cell(value) for key, value in _told(each).items()} for each in accounts)])
    else:
        say("there are no accounts: consentkit staff add NAME --role beheer")


@app.command()
def disable(context: typer.Context, name: Name, json: JsonOption = False) -> None:
    """Let an account in no more, and log it out at once."""
    with opened_kit(context) as kit:
        kit.accounts.disable(name, by=COMMAND_LINE)
        account = kit.accounts.get(name)
    _done("disabled", account, json=json)


@app.command()
def enable(context: typer.Context, name: Name, json: JsonOption = False) -> None:
    """Let an account in again."""
    with opened_kit(context) as kit:
        kit.accounts.enable(name, by=COMMAND_LINE)
        account = kit.accounts.get(name)
    _done("enabled", account, json=json)


@app.command()
def reset(context: typer.Context, name: Name, json: JsonOption = False) -> None:
    """Make a new password, turn the second factor off and end every log-in: for who lost a password or a telephone."""
    with opened_kit(context) as kit:
        given = kit.accounts.reset(name, by=COMMAND_LINE)
    if json:
        data({"name": given.name, "password": given.password})
    else:
        say(f"was reset: {given.name}")
        _say_password(given)


def _say_password(given: Given) -> None:
    if given.password:
        say(f"password, shown only now: {given.password}")


def _done(what: str, account: Account, *, json: bool) -> None:
    if json:
        data(_told(account))
    else:
        say(f"was {what}: {account.name}")


def _told(account: Account) -> dict[str, Any]:
    return {
        "name": account.name,
        "roles": _names(account.roles),
        "disabled": account.disabled,
        "must_change": account.must_change,
        "second_factor": account.second_factor,
        "last_log_in": account.seen_at,
    }


def _cell(value: object) -> str:
    match value:
        case None:
            return "never"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(value)
        case _:
            return f"{value:%Y-%m-%d %H:%M} UTC" if hasattr(value, "strftime") else str(value)


def _names(roles: frozenset[Role]) -> list[str]:
    return [role.value for role in Role if role in roles]
