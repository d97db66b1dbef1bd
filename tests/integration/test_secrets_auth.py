# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each way to log in, against a real OpenBao that is set up by the commands of its page in docs/secrets."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contract.certificates import Authority
from integration import identities, openbao

from ansible_collections.gatewayops.openai.plugins.module_utils._errors import SecretError
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.references import Reference
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.cache import RunCache
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.options import SecretOptions, VaultOptions
from ansible_collections.gatewayops.openai.plugins.plugin_utils._secrets.session import SecretSession

DOCS = Path(__file__).resolve().parents[2] / "docs" / "secrets"
CANARY = "canary-90c1"
POLICY = 'path "kv/data/providers/*" { capabilities = ["read"] }'
KEY = Reference("vault", "kv/providers/openai", "api_key")
READ = "kv/data/providers/openai"
AUDIENCE = "https://vault.example.com:8200"
PASSWORD = "password-90c1"
CLUSTER = identities.Signer(iss="https://kubernetes.default.svc")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands of the pages are run and find their files."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def bao(directory: Path) -> Iterator[openbao.OpenBao]:
    server = openbao.start(directory / "openbao", tls=True)
    try:
        server.put("kv/providers/openai", api_key=CANARY)
        server.call("PUT", "sys/policies/acl/gateway", {"policy": POLICY})
        server.call("DELETE", "sys/auth/approle")  # its page enables it
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def set_up(bao: openbao.OpenBao, directory: Path) -> Any:
    """Run the commands of a section of a page; ``replaced`` are its example values. Returns what they printed."""

    def run(page: str, section: str = "On the server", **replaced: str) -> str:
        text = (DOCS / f"auth-{page}.md").read_text()
        match = re.search(rf"^## {section}$.*?^```sh$(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        assert match, f"no commands in section {section!r}"
        commands = match.group(1)
        for example, value in replaced.items():
            assert example in commands
            commands = commands.replace(example, value)
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(directory),
            "BAO_ADDR": bao.address,
            "BAO_CACERT": bao.ca_file,
            "BAO_TOKEN": bao.token,
            "PASSWORD": PASSWORD,
        }
        done = subprocess.run(
            ["/bin/sh", "-euc", commands], env=environment, cwd=directory, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


class Run:
    """One run of Ansible, with the processes that share its cache; what it asked of the server is counted."""

    def __init__(self, bao: openbao.OpenBao, cache: Path, **options: Any) -> None:
        self._bao = bao
        self._cache = cache
        self._options = {"addr": bao.address, "ca_file": bao.ca_file, **options}
        self._began = bao.position()

    def resolve(self, reference: Reference = KEY, **options: Any) -> str:
        vault = VaultOptions(**{**self._options, **options})
        session = SecretSession(SecretOptions(vault=vault), RunCache(self._cache, b"authkey of the run"))
        return session.resolve([reference])[reference]

    def refusal(self, **options: Any) -> str:
        """The message, which three processes get, without who says it."""
        messages = set()
        for _process in range(3):
            with pytest.raises(SecretError) as caught:
                self.resolve(**options)
            messages.add(str(caught.value))
        (message,) = messages
        start, server, rest = message.partition(f"Vault at {self._bao.address} ")
        assert (start, bool(server)) == (f"{KEY.text}: ", True)
        given = {**self._options, **options}
        for name in ("token", "secret_id", "wrapped_secret_id", "jwt", "password"):
            assert not given.get(name) or given[name] not in message
        assert "\n" not in message
        return rest

    @property
    def requests(self) -> list[str]:
        return self._bao.requests(self._began)


@pytest.fixture
def run(bao: openbao.OpenBao, tmp_path: Path) -> Any:
    def make(**options: Any) -> Run:
        return Run(bao, tmp_path / "cache", **options)

    return make


def works(run: Run, *requests: str, **options: Any) -> None:
    """Three processes get the secret with one login and one read."""
    assert [run.resolve(**options) for _process in range(3)] == [CANARY] * 3
    assert run.requests == [*requests, READ]


def test_token(run: Any, set_up: Any, tmp_path: Path) -> None:
    token = set_up("token").strip()
    works(run(token=token))
    file = tmp_path / "token"
    file.write_text(f"{token}\n")
    works(run(token_file=str(file)))
    assert run(token="s.wrong", token_file=str(file)).refusal().startswith("does not accept the token")


def test_token_file_in_the_home_directory(
    run: Any, bao: openbao.OpenBao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".vault-token").write_text(bao.token)
    works(run(token_file="~/.vault-token"))


@pytest.fixture(scope="module")
def role_id(set_up: Any) -> str:
    return str(set_up("approle").splitlines()[-1])


class TestApprole:
    @pytest.fixture
    def wrapped(self, role_id: str, set_up: Any) -> dict[str, str]:
        token = set_up("approle", "A wrapped secret id").strip()
        return {"auth_method": "approle", "role_id": role_id, "wrapped_secret_id": token}

    LOGIN = "auth/approle/login"
    UNWRAP = ("sys/wrapping/lookup", "sys/wrapping/unwrap")

    def test_secret_id(self, run: Any, bao: openbao.OpenBao, role_id: str) -> None:
        secret_id = bao.call("POST", "auth/approle/role/gateway/secret-id", {})["data"]["secret_id"]
        given = {"auth_method": "approle", "role_id": role_id, "secret_id": secret_id}
        works(run(**given), self.LOGIN)

    def test_wrong(self, run: Any, role_id: str) -> None:
        wrong = run(auth_method="approle", role_id=role_id, secret_id="9f0c-wrong")
        assert wrong.refusal() == (
            "refused the login (approle): check vault_role_id, vault_secret_id, vault_auth_mount (auth/approle)"
        )
        assert wrong.requests == [self.LOGIN]

    def test_no_such_mount(self, run: Any, role_id: str) -> None:
        wrong = run(auth_method="approle", role_id=role_id, secret_id="9f0c", auth_mount="team/approle")
        assert wrong.refusal().endswith("vault_auth_mount (auth/team/approle)")

    def test_wrapped_secret_id(self, run: Any, wrapped: dict[str, str]) -> None:
        works(run(**wrapped), *self.UNWRAP, self.LOGIN)

    def test_it_is_not_unwrapped_again_for_a_later_login(self, run: Any, bao: openbao.OpenBao) -> None:
        bao.put("kv/providers/later", api_key=CANARY)
        role_id, _secret_id = bao.approle("brief", POLICY, token_ttl="1s", token_max_ttl="1s")
        token = wrap(bao, "auth/approle/role/brief/secret-id", {})
        brief = run(auth_method="approle", role_id=role_id, wrapped_secret_id=token)
        brief.resolve()
        time.sleep(1.1)
        assert brief.resolve(Reference("vault", "kv/providers/later", "api_key")) == CANARY
        asked = [path for path in brief.requests if path in (*self.UNWRAP, self.LOGIN)]
        assert asked == [*self.UNWRAP, self.LOGIN, self.LOGIN]

    def test_wrapped_secret_id_that_was_used(
        self, run: Any, bao: openbao.OpenBao, wrapped: dict[str, str], tmp_path: Path
    ) -> None:
        Run(bao, tmp_path / "first", **wrapped).resolve()
        second = run(**wrapped)
        message = second.refusal()
        assert message.startswith("cannot be asked: vault_wrapped_secret_id has been used already, or its time is over")
        assert message.endswith("somebody else has the secret id, so destroy that first")
        assert second.requests == ["sys/wrapping/lookup"]

    @pytest.mark.parametrize("token", ["s.nonsense", "root"])
    def test_no_wrapping_token_at_all(self, run: Any, role_id: str, token: str) -> None:
        wrong = run(auth_method="approle", role_id=role_id, wrapped_secret_id=token)
        assert "has been used already, or its time is over" in wrong.refusal()
        assert wrong.requests == ["sys/wrapping/lookup"]

    def test_another_wrapping_token_is_not_used(self, run: Any, bao: openbao.OpenBao, role_id: str) -> None:
        for path, body in (("sys/wrapping/wrap", {"secret_id": "theirs"}), ("auth/token/create", {"policies": "root"})):
            token = wrap(bao, path, body)
            wrong = run(auth_method="approle", role_id=role_id, wrapped_secret_id=token)
            assert wrong.refusal() == (
                "cannot be asked: vault_wrapped_secret_id was not made by auth/approle/role/NAME/secret-id but by"
                f" {path}: it was not used, since somebody may have put it in the place of the right one"
            )
            assert wrong.requests == ["sys/wrapping/lookup"], "the token stays for who looks into it"

    def test_custom_secret_id(self, run: Any, bao: openbao.OpenBao, role_id: str) -> None:
        token = wrap(bao, "auth/approle/role/gateway/custom-secret-id", {"secret_id": "chosen-by-us"})
        works(run(auth_method="approle", role_id=role_id, wrapped_secret_id=token), *self.UNWRAP, self.LOGIN)


def wrap(bao: openbao.OpenBao, path: str, body: dict[str, Any]) -> str:
    """The wrapping token of an answer; `OpenBao.call` sends no headers of its own."""
    import hvac

    client = hvac.Client(bao.address, token=bao.token, verify=bao.ca_file)
    try:
        return str(client.adapter.post(f"/v1/{path}", json=body, wrap_ttl="60s")["wrap_info"]["token"])
    finally:
        client.adapter.close()


@pytest.fixture(scope="module")
def _userpass(set_up: Any) -> None:
    set_up("userpass")


@pytest.mark.usefixtures("_userpass")
class TestUserpass:
    GIVEN = {"auth_method": "userpass", "username": "ann", "password": PASSWORD}  # noqa: RUF012
    LOGIN = "auth/userpass/login/ann"

    def test_password(self, run: Any) -> None:
        works(run(**self.GIVEN), self.LOGIN)

    def test_wrong_and_locked(self, run: Any, bao: openbao.OpenBao, tmp_path: Path) -> None:
        wrong = run(**self.GIVEN | {"password": "wrong-90c1"})
        check = "check vault_username, vault_password, vault_auth_mount (auth/userpass)"
        assert wrong.refusal() == f"refused the login (userpass): {check}"
        assert wrong.requests == [self.LOGIN]
        for turn in range(4):
            Run(bao, tmp_path / str(turn), **self.GIVEN | {"password": "wrong-90c1"}).refusal()
        assert run(**self.GIVEN).refusal() == (
            "refused the login (userpass): check vault_auth_mount;"
            " the user may be locked after too many wrong passwords"
        )

    def test_a_name_that_is_no_path(self, run: Any) -> None:
        wrong = run(**self.GIVEN | {"username": "../userpass/login/ann?x"})
        assert wrong.refusal().startswith("refused the login (userpass): check ")
        assert self.LOGIN not in wrong.requests


@pytest.fixture(scope="module")
def issuer() -> Iterator[identities.Issuer]:
    signer = identities.Signer(sub="x", repository="acme/gateway", environment="production")
    issuer = identities.Issuer(signer, PASSWORD)
    with identities.serving(issuer):
        yield issuer


@pytest.fixture(scope="module")
def github(set_up: Any, issuer: identities.Issuer) -> dict[str, str]:
    set_up("jwt", "GitHub Actions", **{"https://token.actions.githubusercontent.com": issuer.address})
    return {"auth_method": "jwt", "auth_mount": "github", "role": "gateway", "jwt_github_audience": AUDIENCE}


class TestJwt:
    @pytest.fixture
    def token(self, github: dict[str, str], issuer: identities.Issuer) -> Any:
        return lambda **claims: issuer.signer.token(**{"iss": issuer.address, "aud": AUDIENCE, **claims})

    @pytest.fixture(autouse=True)
    def _job(self, issuer: identities.Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{issuer.address}/token?api-version=2.0")
        monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", PASSWORD)

    def test_github(self, run: Any, github: dict[str, str]) -> None:
        works(run(**github), "auth/github/login")

    def test_github_refuses(self, run: Any, github: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "wrong-90c1")
        wrong = run(**github)
        assert wrong.refusal() == "cannot be asked: GitHub gave no token (HTTP 401)"
        monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"http://127.0.0.1:{openbao.free_port()}/")
        wrong = run(**github | {"role": "other"})
        assert wrong.refusal() == "was not asked: GitHub does not answer when asked for a token"
        assert wrong.requests == []

    def test_token_and_file(self, run: Any, github: dict[str, str], token: Any, tmp_path: Path) -> None:
        (tmp_path / "jwt").write_text(f"{token()}\n")
        works(run(**github, jwt_file=str(tmp_path / "jwt")), "auth/github/login")
        (tmp_path / "jwt").write_text(token(aud="another"))
        works(run(**github, jwt=token(), jwt_file=str(tmp_path / "jwt")), "auth/github/login")

    @pytest.mark.parametrize(
        ("claims", "message"),
        [
            (
                {"at": -1000},
                "the JSON Web Token has expired: take a new one, or compare the clocks",
            ),
            ({"at": 1000}, "the JSON Web Token is not valid yet: compare the clocks of the server and of who made"),
            ({"at": 1000, "nbf": 1}, "the JSON Web Token was made in the future: compare the clocks"),
            ({"aud": "other"}, "the JSON Web Token is for another audience than those of the role (bound_audiences)"),
            (
                {"iss": "http://other"},
                "the JSON Web Token is from another issuer than that of the method",
            ),
            ({"environment": "x"}, "the role does not admit the claims of the JSON Web Token (bound_claims)"),
        ],
    )
    def test_refused(self, run: Any, github: dict[str, str], token: Any, claims: dict[str, Any], message: str) -> None:
        wrong = run(**github, jwt=token(**claims))
        assert wrong.refusal().startswith(f"refused the login (jwt): {message}")
        assert wrong.requests == ["auth/github/login"]

    def test_clocks_that_differ_a_little(self, run: Any, github: dict[str, str], token: Any) -> None:
        works(run(**github, jwt=token(at=-300 - 30)), "auth/github/login")

    def test_other_refusals(self, run: Any, github: dict[str, str], token: Any, issuer: identities.Issuer) -> None:
        for options, message in (
            ({"jwt": CANARY}, "what was sent is not a JSON Web Token, which has three parts with dots between them"),
            ({"jwt": token(), "role": "none"}, "there is no role vault_role in the method at vault_auth_mount"),
            (
                {"jwt": token(), "role": ""},
                "vault_role is not set, and the method at vault_auth_mount has no default_role",
            ),
            (
                {"jwt": identities.Signer().token(iss=issuer.address, aud=AUDIENCE)},
                "the JSON Web Token is not signed by a key that the method at vault_auth_mount trusts",
            ),
            (
                {"jwt": token(), "auth_mount": "nowhere"},
                "check vault_jwt, vault_role, vault_auth_mount (auth/nowhere)",
            ),
        ):
            assert run(**github | options).refusal() == f"refused the login (jwt): {message}"

    def test_a_server_that_has_only_the_key(self, run: Any, bao: openbao.OpenBao) -> None:
        signer = identities.Signer(iss="https://k8s.internal", aud=AUDIENCE, sub="x")
        role = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": AUDIENCE, "token_policies": "gateway"}
        bao.call("POST", "sys/auth/key", {"type": "jwt"})
        keys = {"jwt_validation_pubkeys": signer.public_key, "bound_issuer": "https://k8s.internal"}
        bao.call("POST", "auth/key/config", keys | {"default_role": "any"})
        bao.call("POST", "auth/key/role/any", role)
        works(run(auth_method="jwt", auth_mount="key", jwt=signer.token()), "auth/key/login")

    def test_gitlab(self, run: Any, set_up: Any, issuer: identities.Issuer) -> None:
        set_up("jwt", "GitLab CI", **{"https://gitlab.example.com": issuer.address})
        job = {"project_path": "acme/gateway", "ref_type": "branch", "ref": "main", "ref_protected": "true"}
        given = {"auth_method": "jwt", "auth_mount": "gitlab", "role": "gateway"}
        token = issuer.signer.token(iss=issuer.address, aud=AUDIENCE, **job)
        works(run(**given, jwt=token), "auth/gitlab/login")
        other = issuer.signer.token(iss=issuer.address, aud=AUDIENCE, **job | {"ref": "feature"})
        assert run(**given, jwt=other).refusal().endswith("(bound_claims)")

    def test_awx(self, run: Any, set_up: Any, issuer: identities.Issuer, tmp_path: Path) -> None:
        set_up("jwt", "AWX", **{"https://k8s.example.com": issuer.address})
        given = {"auth_method": "jwt", "auth_mount": "awx", "role": "gateway", "jwt_file": str(tmp_path / "token")}
        pod = {"iss": issuer.address, "aud": [AUDIENCE], "sub": "system:serviceaccount:awx:awx-gateway"}
        (tmp_path / "token").write_text(issuer.signer.token(**pod))
        works(run(**given), "auth/awx/login")
        (tmp_path / "other").write_text(issuer.signer.token(**pod | {"sub": "system:serviceaccount:awx:default"}))
        given["jwt_file"] = str(tmp_path / "other")
        assert "is of another subject than that of the role" in run(**given).refusal()


@pytest.fixture(scope="module")
def cluster(set_up: Any, directory: Path) -> Iterator[identities.Issuer]:
    cluster = identities.Issuer(CLUSTER, PASSWORD)
    Authority(directory, "k8s-ca")
    with identities.serving(cluster):
        set_up("kubernetes", **{"https://k8s.example.com:6443": cluster.address})
        yield cluster


class TestKubernetes:
    LOGIN = "auth/kubernetes/login"

    def given(self, cluster: identities.Issuer, file: Path, *, account: str, known: bool = True) -> dict[str, str]:
        names = {"namespace": "awx", "serviceaccount": {"name": account, "uid": "1"}}
        user = f"system:serviceaccount:awx:{account}"
        token = CLUSTER.token(sub=user, **{"kubernetes.io": names})
        if known:
            cluster.accounts[token] = user
        file.write_text(token)
        return {"auth_method": "kubernetes", "role": "gateway", "jwt_file": str(file)}

    def test_service_account(self, run: Any, cluster: identities.Issuer, tmp_path: Path) -> None:
        works(run(**self.given(cluster, tmp_path / "token", account="awx-gateway")), self.LOGIN)

    def test_refused(self, run: Any, cluster: identities.Issuer, tmp_path: Path) -> None:
        given = self.given(cluster, tmp_path / "token", account="awx-gateway", known=False)
        wrong = run(**given)
        assert wrong.refusal() == (
            "refused the login (kubernetes): check vault_role, vault_jwt_file, vault_auth_mount (auth/kubernetes)"
        )
        assert wrong.requests == [self.LOGIN]
        given = self.given(cluster, tmp_path / "other", account="default")
        assert run(**given).refusal() == (
            "refused the login (kubernetes): the role is not for this service account or namespace"
        )


@pytest.fixture(scope="module")
def authority(set_up: Any, directory: Path) -> Authority:
    authority = Authority(directory, "clients-ca")
    set_up("cert")
    return authority


class TestCert:
    NAME = "controller.example.com"
    LOGIN = "auth/cert/login"

    def files(self, authority: Authority, name: str) -> dict[str, str]:
        certificate, key = authority.sign(name, name)
        return {"client_cert": str(certificate), "client_key": str(key)}

    @pytest.mark.parametrize("role", ["gateway", ""])
    def test_certificate(self, run: Any, authority: Authority, role: str) -> None:
        works(run(auth_method="cert", role=role, **self.files(authority, self.NAME)), self.LOGIN)

    def test_refused(self, run: Any, authority: Authority, tmp_path: Path) -> None:
        another = Authority(tmp_path, "another")
        for certificate in (self.files(authority, "other.example.com"), self.files(another, self.NAME)):
            wrong = run(auth_method="cert", role="gateway", **certificate)
            assert wrong.refusal().startswith("refused the login (cert): no role admits the certificate")
            assert wrong.requests == [self.LOGIN]

    def test_key_of_another_certificate(self, run: Any, authority: Authority) -> None:
        files = self.files(authority, self.NAME) | {"client_key": str(authority.sign("x", "x")[1])}
        wrong = run(auth_method="cert", **files)
        assert "failed to make a TLS connection" in wrong.refusal()
        assert wrong.requests == []
