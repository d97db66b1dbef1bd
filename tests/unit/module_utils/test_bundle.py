"""Bundles, and how their files travel."""

from __future__ import annotations

import base64
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spec_examples import every_key

from ansible_collections.gatewayops.openai.plugins.module_utils._bundle import Bundle, build_bundle
from ansible_collections.gatewayops.openai.plugins.module_utils._bundle_files import (
    BundleFile,
    decode_files,
    encode_files,
)
from ansible_collections.gatewayops.openai.plugins.module_utils._errors import ReleaseError
from ansible_collections.gatewayops.openai.plugins.module_utils._host.model import host_from_options
from ansible_collections.gatewayops.openai.plugins.module_utils._spec.parse import parse_spec

HOST = host_from_options({"envoy": "/opt/envoy"})
NAMES = st.text("abc.-_", min_size=1, max_size=5).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
FILES = st.lists(
    st.builds(BundleFile, PATHS, st.binary(max_size=50), st.integers(0, 0o777)), unique_by=lambda file: file.path
)


def packed(table: object) -> str:
    return base64.b64encode(zlib.compress(json.dumps(table).encode())).decode()


class TestTravel:
    @given(FILES)
    def test_there_and_back(self, files: list[BundleFile]) -> None:
        assert decode_files(encode_files(files)) == tuple(sorted(files, key=lambda file: file.path))

    @given(FILES)
    def test_equal_files_are_equal_texts(self, files: list[BundleFile]) -> None:
        assert encode_files(files) == encode_files(reversed(files))

    @pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/", "a\0b", "..", "."])
    def test_paths_that_lead_out(self, path: str) -> None:
        with pytest.raises(ReleaseError, match="not below the release directory"):
            decode_files(packed({path: [0o644, ""]}))

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "!",
            base64.b64encode(b"not zlib").decode(),
            packed([]),
            packed({"a": 1}),
            packed({"a": [0o644, "!"]}),
            packed({"a": [0o4755, ""]}),
            packed({"a": ["644", ""]}),
            encode_files([BundleFile("a", b"x" * 1000)])[:-8],
        ],
    )
    def test_what_was_damaged(self, text: str) -> None:
        with pytest.raises(ReleaseError, match="cannot be read"):
            decode_files(text)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return build_bundle(parse_spec(every_key()), HOST)


class TestBundle:
    def test_the_files(self, bundle: Bundle) -> None:
        paths = [file.path for file in bundle.files]
        assert paths == sorted(paths)
        assert {
            "envoy/bootstrap-blue.json",
            "envoy/bootstrap-green.json",
            "envoy/cds.json",
            "envoy/ecds-limits.json",
            "envoy/ecds-request.json",
            "envoy/lds.json",
            "envoy/rds-egress.json",
            "envoy/rds-gateway.json",
            "libexec/gateway-admin",
            "resources.json",
        } <= set(paths)
        assert any(path.startswith("host/etc/systemd/system/") for path in paths)

    def test_the_digest(self, bundle: Bundle) -> None:
        again = build_bundle(parse_spec(every_key()), HOST)
        assert bundle.digest == again.digest
        assert len(bundle.digest) == 16
        first, *rest = bundle.files
        others = (
            BundleFile(first.path, first.content + b" ", first.mode),
            BundleFile(first.path + "x", first.content, first.mode),
            BundleFile(first.path, first.content, 0o600),
        )
        digests = {Bundle((other, *rest), ()).digest for other in others}
        assert len(digests | {bundle.digest}) == 4

    def test_no_secret_is_in_it(self) -> None:
        raw = every_key()
        raw["gateway_providers"]["openai"]["api_key"] = "sk-hidden-provider"
        raw["gateway_consumers"]["batch"]["api_keys"] = ["sk-hidden-consumer"]
        pem = "-----BEGIN hidden-----"
        raw["gateway_listeners"]["public"]["tls"].update(certificate=pem, private_key=pem)
        bundle = build_bundle(parse_spec(raw), HOST)
        assert not [file.path for file in bundle.files if b"hidden" in file.content]
        assert "hidden" not in repr(bundle)
