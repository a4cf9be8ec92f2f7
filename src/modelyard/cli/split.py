"""Traffic: shares, rules and copies by hand, and whom a request meets."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from modelyard.app.splitting import SplitVerbs
from modelyard.cli.options import Json
from modelyard.cli.printing import Printer, TerminalProgress
from modelyard.cli.traffic import verbs
from modelyard.core.release import HeaderRule, Traffic
from modelyard.errors import UsageError


def traffic(
    name: Annotated[str, typer.Argument(help="The service.")],
    share: Annotated[list[str], typer.Option(help="RELEASE=SHARE; all of them together are 1.")] = [],  # noqa: B006
    rule: Annotated[list[str], typer.Option(help="HEADER:VALUE=RELEASE; the first that fits decides.")] = [],  # noqa: B006
    mirror: Annotated[list[str], typer.Option(help="RELEASE=SHARE of requests copied to it.")] = [],  # noqa: B006
    key_header: Annotated[str, typer.Option(help="Header by which a caller stays with one release.")] = "",
    clear: Annotated[list[str], typer.Option(help="`rules` or `mirror`: take them away.")] = [],  # noqa: B006
    who: Annotated[str, typer.Option(help="A request's id: whom does it meet, and with which probability?")] = "",
    header: Annotated[list[str], typer.Option(help="NAME:VALUE that the request of --who has.")] = [],  # noqa: B006
    json: Json = False,
) -> None:
    """Example: modelyard traffic income --share income@1=0.9 --share income@2=0.1 --rule "x-beta:yes=income@2"

    Without an option it shows the table. What is not named stays as it is. Nobody judges a split by hand: a rollout,
    `modelyard deploy --strategy canary`, goes back by itself.
    """
    split, printer = SplitVerbs(verbs()), Printer(as_json=json)
    if who:
        met = split.meeting(name, who, dict(_pair(one, ":", "HEADER:VALUE, such as x-tenant:acme") for one in header))
        why = f"the rule {met.rule.header}: {met.rule.value}" if met.rule else f"probability {met.probability:g}"
        by = f"its key {met.key}" if met.key is not None else f"its id {who}"
        printer.line(f"{met.release} ({why}{'' if met.rule else f', by {by}'}; epoch {met.epoch})")
        for release in met.copied_to:
            printer.line(f"A copy goes to {release}.")
        printer.data(met)
        return
    unknown = sorted(set(clear) - {"rules", "mirror"})
    if unknown:
        raise UsageError(f"`--clear {unknown[0]}` clears nothing known: `rules` or `mirror` is wanted.")
    if not (share or rule or mirror or key_header or clear):
        table = split.table(name)
        _show(printer, name, table)
        printer.data(table)
        return
    changed = split.split(
        name,
        shares=dict(_share(one) for one in share) if share else None,
        rules=() if "rules" in clear else [_rule(one) for one in rule] if rule else None,
        shadow={} if "mirror" in clear else dict(_share(one) for one in mirror) if mirror else None,
        key_header=key_header.lower() or None,
    )
    shares = ", ".join(f"{one} {100 * part:g} %" for one, part in changed.shares.items())
    printer.line(f"{name}: {shares} (epoch {changed.epoch}, {changed.seconds:.2f} s).")
    for why in changed.warnings:
        TerminalProgress().say(f"WARNING: {why}")
    if changed.previous is not None:
        printer.line(f"Go back to {changed.previous}: modelyard rollback {name}")
    printer.data(changed)


def _show(printer: Printer, name: str, table: Traffic) -> None:
    printer.line(f"{name}, epoch {table.epoch}; a caller is known by {table.key_header}.")
    rows = [
        (one, f"{100 * share:g} %", f"{100 * table.shadow.get(one, 0.0):g} %") for one, share in table.shares.items()
    ]
    printer.table(("release", "share", "copies"), rows)
    for one in table.rules:
        printer.line(f"{one.header}: {one.value} meets {one.release}")
    if table.previous is not None:
        printer.line(f"Go back to {table.previous}: modelyard rollback {name}")


def _pair(text: str, mark: str, wanted: str) -> tuple[str, str]:
    left, found, right = text.partition(mark)
    if not found or not left.strip() or not right.strip():
        raise UsageError(f"`{text}`: wanted {wanted}.")
    return left.strip(), right.strip()


def _share(text: str) -> tuple[str, float]:
    release, share = _pair(text, "=", "RELEASE=SHARE, such as income@2=0.1")
    try:
        return release, float(share)
    except ValueError:
        raise UsageError(f"`{text}`: {share!r} is no share; a number from 0 to 1 is wanted.") from None


def _rule(text: str) -> HeaderRule:
    left, found, release = text.rpartition("=")
    if not found:
        raise UsageError(f"`{text}` is no rule: HEADER:VALUE=RELEASE is wanted, such as x-beta:yes=income@2.")
    header, value = _pair(left, ":", "HEADER:VALUE=RELEASE, such as x-beta:yes=income@2")
    wanted = {"header": header.lower(), "value": value, "release": release.strip()}
    try:
        return msgspec.convert(wanted, HeaderRule)
    except msgspec.ValidationError as fault:
        raise UsageError(f"`{text}` is no rule: {fault}.") from fault
