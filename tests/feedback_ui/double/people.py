"""Ops, Access and Audit: users, keys, usage, erasures, the log."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.feedback_ui.double.memory import Memory, problem
from tests.feedback_ui.double.rows import now


class People(Memory):
    """Answers those routes from the memory."""

    async def people(self, request: Request) -> Response:
        rows = self.keys if request.url.path.endswith("keys") else self.users
        if request.method == "GET":
            return JSONResponse(rows)
        body = await request.json()
        if any(row["name"] == body["name"] for row in self.users) and rows is self.users:
            return problem(409, "Conflict", f"user {body['name']} exists already")
        made = {"id": self.new("who"), "name": body["name"], "roles": body["roles"], "created_at": now()}
        secret = {}
        if rows is self.keys:
            made |= {"prefix": "tt-4f9", "revoked_at": None}
            secret = {"secret": "tt-4f9c2b8e6a1d7f30"}
        rows.append(made)
        self.note("key.create" if secret else "user.create", made["name"])
        return JSONResponse(made | secret, 201)

    async def list_usage(self, request: Request) -> Response:
        return JSONResponse(self.usage)

    async def remove_person(self, request: Request) -> Response:
        ident = request.path_params["id"]
        self.users = [row for row in self.users if row["name"] != ident]
        for row in self.keys:
            if row["id"] == ident:
                row["revoked_at"] = now()
        return Response(status_code=204)

    async def erase(self, request: Request) -> Response:
        name = request.path_params["id"]
        if name not in self.known_people:
            return problem(404, "Not Found", f"there is no person {name!r}")
        dry_run = request.query_params.get("dry_run") == "true"
        learned = [{"id": row["id"], "ref": row["name"]} for row in self.releases if row["adapter"]]
        done = {"id": self.new("erase"), "removed": {"votes": 3, "pairs": 2, "likes": 0}, "releases": learned}
        done |= {"runs": ["run-0007"], "stopped": ["run-0007"], "of_others": {"votes": 1}}
        if not dry_run:
            self.known_people.discard(name)
            self.erased.append(done)
        return JSONResponse(done | {"dry_run": dry_run})

    async def erasures(self, request: Request) -> Response:
        flagged = [row for done in self.erased for row in done["releases"]]
        return JSONResponse({"erasures": self.erased, "flagged": flagged})

    async def list_audit(self, request: Request) -> Response:
        asked = request.query_params
        rows = [
            row
            for row in self.audit
            if asked.get("action") in (None, row["action"]) and asked.get("text", "") in str(row)
        ]
        return JSONResponse(rows)

    async def audit_options(self, request: Request) -> Response:
        return JSONResponse(
            {
                "actors": sorted({row["actor"] for row in self.audit}),
                "actions": sorted({row["action"] for row in self.audit}),
            }
        )

    def people_routes(self) -> list[Route]:
        return [
            Route("/api/keys", self.people, methods=["GET", "POST"]),
            Route("/api/keys/{id}", self.remove_person, methods=["DELETE"]),
            Route("/api/users", self.people, methods=["GET", "POST"]),
            Route("/api/usage", self.list_usage),
            Route("/api/users/{id}", self.remove_person, methods=["DELETE"]),
            Route("/api/users/{id}/erase", self.erase, methods=["POST"]),
            Route("/api/erasures", self.erasures),
            Route("/api/audit", self.list_audit),
            Route("/api/audit/options", self.audit_options),
        ]
