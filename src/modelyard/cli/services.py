"""Services: serve, services, stop."""

from __future__ import annotations

from typing import Annotated

import typer

from modelyard.app.records import Records
from modelyard.app.service import ServiceVerbs
from modelyard.cli.options import Json, Ref, words
from modelyard.cli.printing import Printer, TerminalProgress
from modelyard.serve.messages import RunInfo


def serve(
    ref: Ref,
    host: Annotated[str | None, typer.Option(help="Address to listen on; the spec's by default.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; the spec's by default, 0 for any free one.", min=0, max=65535)
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(help="Port of the gRPC door; the spec's by default.", min=0, max=65535)
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return once it is ready; it goes on by itself.")] = False,
    json: Json = False,
) -> None:
    """Example: modelyard serve income --detach"""
    verbs, printer = _services(), Printer(as_json=json)
    if not detach:
        said = TerminalProgress().say
        raise typer.Exit(verbs.serve(ref, host=host, port=port, grpc_port=grpc_port, said=said, listening=printer.data))
    state = verbs.detach(ref, host=host, port=port, grpc_port=grpc_port, said=TerminalProgress().say)
    run = state.run
    printer.line(f"{run.service} serves {', '.join(state.routes.traffic.shares)} on {_address(run)}")
    if run.grpc_port is not None:
        printer.line(f"gRPC: {run.host}:{run.grpc_port}")
    if run.management_port is not None:
        printer.line(f"Management, for keys that may: port {run.management_port}")
    printer.line(f"End it: modelyard stop {run.service}")
    printer.data(state)


def services(json: Json = False) -> None:
    """Example: modelyard services"""
    printer = Printer(as_json=json)
    found = _services().all()
    if not found:
        printer.line("No service runs.")
    else:
        rows = [
            (
                one.run.service,
                _address(one.run),
                "running" if one.alive else f"supervisor died; {one.orphans} processes still answer",
                str(one.run.pid),
                one.run.started[:19],
            )
            for one in found
        ]
        printer.table(("service", "address", "state", "process", "started"), rows)
    printer.data(found)


def stop(name: Annotated[str, typer.Argument(help="The service.")], json: Json = False) -> None:
    """Example: modelyard stop income"""
    told = _services().stop(name)
    printer = Printer(as_json=json)
    printer.line(told)
    printer.data({"service": name, "detail": told})


def _address(run: RunInfo) -> str:
    return f"{'https' if run.tls else 'http'}://{run.host}:{run.port}"


def _services() -> ServiceVerbs:
    records = Records(command=words())
    return ServiceVerbs(records.settings, records.store, records.clock)
