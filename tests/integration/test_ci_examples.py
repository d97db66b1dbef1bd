"""The examples for CI: read by their linters, and their commands run as they stand, against a gateway."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from integration.gitlab import a_gitlab
from integration.readers import read_by
from integration.site_gateway import BIN, ROOT, Gateway, a_gateway

GITHUB = sorted((ROOT / "examples" / "github-actions").glob("*.yml"))
GITLAB = ROOT / "examples" / "gitlab-ci" / ".gitlab-ci.yml"
ENVIRONMENTS = ("staging", "production")
#: What CI puts in the place of expressions.
EXPRESSIONS = {
    "matrix.environment": "production",
    "github.token": "token",
    "github.repository": "acme/gateway",
    "github.event.pull_request.number": "7",
    "inputs.run": "",
}
#: A command of GitHub that notes what it was called for, and answers as if there were such things.
GH = """#!/bin/sh
echo "$@" >> gh.log
case "$*" in
    *"commits/abc/pulls"*) echo head-of-the-pull-request ;;
    "run list"*"--commit head-of-the-pull-request"*) echo 42 ;;
    "run download 42 --name plan-production") cp artifact/plan.json plan.json ;;
    "api --paginate"*) cat found 2>/dev/null || true ;;
esac
"""


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def step(workflow: str, job: str, name: str) -> dict[str, Any]:
    steps = load(ROOT / "examples" / "github-actions" / f"{workflow}.yml")["jobs"][job]["steps"]
    found: dict[str, Any] = next(each for each in steps if each.get("name") == name)
    return found


def scripts() -> dict[str, str]:
    """Every script of the examples, by what it belongs to."""
    found = {}
    for path in GITHUB:
        for name, job in load(path)["jobs"].items():
            for each in job["steps"]:
                if "run" in each:
                    found[f"{path.stem} {name}: {each['name']}"] = each["run"]
    for name, job in load(GITLAB).items():
        if isinstance(job, dict) and "script" in job:
            found[f"gitlab {name}"] = "\n".join(job["script"])
    return found


class TestLinters:
    def test_workflows_fit_their_schemas(self) -> None:
        assert len(GITHUB) == 3
        github = read_by("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *GITHUB)
        assert github.returncode == 0, github.stdout
        gitlab = ["--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci"]
        checked = read_by("check-jsonschema", *gitlab, GITLAB)
        assert checked.returncode == 0, checked.stdout

    def test_a_wrong_workflow_is_found(self, tmp_path: Path) -> None:
        wrong = tmp_path / "wrong.yml"
        wrong.write_text(GITHUB[0].read_text().replace("runs-on:", "runs_on:"))
        assert read_by("check-jsonschema", "--builtin-schema", "vendor.github-workflows", wrong).returncode == 1

    def test_workflows_are_safe(self) -> None:
        """No expression in a script, no token left in the checkout, least permissions, actions by their commits."""
        done = read_by("zizmor", "--offline", "--no-progress", "--persona", "pedantic", *GITHUB)
        assert done.returncode == 0, done.stdout
        assert "No findings to report" in done.stdout

    @pytest.mark.skipif(shutil.which("shellcheck") is None, reason="tools/host-packages installs it")
    @pytest.mark.parametrize("name", sorted(scripts()))
    def test_scripts_are_sound(self, name: str) -> None:
        command = ["shellcheck", "--shell=bash", "--severity=warning", "-"]
        done = subprocess.run(command, input=scripts()[name], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout

    @pytest.mark.parametrize("path", GITHUB, ids=lambda path: path.stem)
    def test_environments_are_those_that_there_are(self, path: Path) -> None:
        for job in load(path)["jobs"].values():
            assert tuple(job["strategy"]["matrix"]["environment"]) == ENVIRONMENTS


class Ci:
    """Runs scripts of the examples in a checkout whose environment `production` is a gateway on this machine."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.directory = gateway.directory
        (self.directory / "inventories").mkdir()
        (self.directory / "inventories" / "production").symlink_to("../inventory")
        (self.directory / "bin").mkdir()
        (self.directory / "bin" / "gh").write_text(GH)
        (self.directory / "bin" / "gh").chmod(0o755)

    def run(self, script: str, *, fails: bool = False, **environment: str) -> str:
        self.gateway.write_variables()
        path = f"{self.directory / 'bin'}:{BIN}:{self.gateway.surroundings['PATH']}"
        given = {"PLAN_KEY": "env://THE_KEY", "THE_KEY": "sk-canary-of-plans", "PATH": path}
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script],
            cwd=self.directory,
            env={**self.gateway.surroundings, "ENVIRONMENT": "production", **environment, **given},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stdout
        return done.stdout

    def github(self, workflow: str, job: str, name: str, *, fails: bool = False) -> str:
        """Run a step of a workflow."""
        found = step(workflow, job, name)
        environment = {
            variable: re.sub(r"\$\{\{ (.*?) \}\}", lambda match: EXPRESSIONS[match[1]], value)
            for variable, value in found.get("env", {}).items()
        }
        known = {"GITHUB_REPOSITORY": "acme/gateway", "GITHUB_SHA": "abc", "GITHUB_STEP_SUMMARY": "summary.md"}
        return self.run(found["run"], fails=fails, **known, **environment)


@pytest.fixture(scope="module")
def ci() -> Iterator[Ci]:
    with a_gateway() as gateway:
        assert gateway.play("site").status == 0
        yield Ci(gateway)


def another_model(ci: Ci, name: str) -> None:
    ci.gateway.variables["gateway_models"][name] = ci.gateway.variables["gateway_models"]["gpt-5"]


def test_github_plans_comments_and_applies_what_was_reviewed(ci: Ci) -> None:
    here = ci.directory
    another_model(ci, "new")
    ci.github("gateway-plan", "validate", "Validate")
    assert {path.suffix for path in here.glob("production.*")} == {".sarif", ".xml"}
    ci.github("gateway-plan", "plan", "Plan")
    assert "Plan: 1 to add" in (here / "summary.md").read_text()
    comment = "Comment, in the place of the comment before"
    ci.github("gateway-plan", "plan", comment)
    assert (here / "comment.md").read_text().startswith("<!-- gateway-plan production -->\n### Plan: 1 to add")
    assert "--method POST repos/acme/gateway/issues/7/comments" in (here / "gh.log").read_text()
    (here / "found").write_text("99\n100\n")
    ci.github("gateway-plan", "plan", comment)
    assert "--method PATCH repos/acme/gateway/issues/comments/99 " in (here / "gh.log").read_text()

    before = ci.gateway.release
    (here / "artifact").mkdir()
    (here / "plan.json").rename(here / "artifact" / "plan.json")
    for name in ("Fetch the plan that was reviewed", "Apply", "Verify"):
        ci.github("gateway-apply", "apply", name)
    assert ci.gateway.release != before
    ci.github("gateway-apply", "apply", "Roll back what was applied")
    assert ci.gateway.release == before
    ci.github("gateway-drift", "drift", "Look for drift", fails=True)
    assert (here / "drift.json").exists()


def test_gitlab_comments_applies_and_rolls_back_what_does_not_work(ci: Ci) -> None:
    jobs = load(GITLAB)
    another_model(ci, "newer")
    # So that it is left to the step after it.
    ci.gateway.variables["gateway_rollout_verify"] = "off"
    before = ci.gateway.release
    with a_gitlab(ci.directory) as gitlab:
        known = {
            "API_TOKEN": "token",
            "CI_API_V4_URL": gitlab.address,
            "CI_PROJECT_ID": "5",
            "CI_MERGE_REQUEST_IID": "7",
            "CI_COMMIT_SHA": "abc",
        }
        for _time in range(2):
            ci.run("\n".join(jobs["plan"]["script"]), **known)
        assert list(gitlab.notes) == [1, 2]
        assert gitlab.notes[1] == "Looks good."
        assert gitlab.notes[2].startswith("<!-- gateway-plan production -->\n### Plan: ")
        # Nobody answers what `verify` asks.
        for provider in ci.gateway.providers.values():
            provider.process.terminate()
        output = ci.run("\n".join(jobs[".apply"]["script"]), fails=True, **known)
        assert output.index("PLAY [Ask every gateway") < output.index("PLAY [Bring back an earlier release]")
        assert ci.gateway.release == before
