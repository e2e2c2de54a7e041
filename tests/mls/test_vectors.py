"""The official vectors of RFC 9420 that this face can run: passive clients, who join by a Welcome and follow commits.

The files are `passive-client-*.json` of github.com/mlswg/mls-implementations, folder `test-vectors/`. They are read
from $BRIDGEKIT_MLS_VECTORS, or from `shared/mls/vectors` beside the repository; else cargo fetches an old release of
OpenMLS that carries them. Key schedule, tree and message vectors are in OpenMLS's own tests. The cipher suites of X448,
P-521 and P-384 are none of OpenMLS's RustCrypto provider. (The files of `interop/passive/` are refused: their key
packages carry extensions that their capabilities do not list.)
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import bridgekit_mls as mls
import msgspec
import pytest

from bridgekit.testing.servers.process import ServerUnavailable

FOLDER = Path(
    os.environ.get("BRIDGEKIT_MLS_VECTORS", Path(__file__).parents[3] / "shared" / "mls" / "vectors")
)
SUITES = (1, 2, 3)
CARRIER = "0.5.0"
"""The last release of the crate openmls with the vectors in it; later ones leave them out."""
MANIFEST = f"""
[package]
name = "vectors"
version = "0.0.0"
edition = "2021"

[lib]
path = "lib.rs"

[dependencies]
openmls = "={CARRIER}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the vectors are. Raises ServerUnavailable where they cannot be had."""
    if any(FOLDER.glob("passive-client-*.json")):
        return FOLDER
    if shutil.which("cargo") is None:
        raise ServerUnavailable(
            f"There are no vectors in {FOLDER}, and no cargo to fetch a crate that has them."
        )
    project = tmp_path_factory.mktemp("vectors")
    (project / "Cargo.toml").write_text(MANIFEST)
    (project / "lib.rs").touch()
    done = subprocess.run(["cargo", "fetch", "-q"], cwd=project, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerUnavailable(f"cargo cannot fetch openmls {CARRIER}: {done.stderr[-500:]}")
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    return next(home.glob(f"registry/src/*/openmls-{CARRIER}/test_vectors"))


def run(case: dict[str, Any]) -> None:
    """Join as the case's client and follow its epochs; equal authenticators are equal secrets."""

    def of(name: str) -> bytes:
        return bytes.fromhex(case[name])

    public = mls.parse(of("key_package"))
    assert public.name is not None
    assert public.signature_key is not None
    identity = mls.Identity.adopt(
        public.name, of("signature_priv"), public.signature_key, cipher_suite=case["cipher_suite"]
    )
    packages = mls.KeyPackages()
    packages.adopt(of("key_package"), of("init_priv"), of("encryption_priv"))
    tree = of("ratchet_tree") if case["ratchet_tree"] else None
    psks = [(bytes.fromhex(psk["psk_id"]), bytes.fromhex(psk["psk"])) for psk in case["external_psks"]]
    group = mls.Group.join(identity, packages, of("welcome"), tree, psks=psks)
    assert group.epoch_authenticator.hex() == case["initial_epoch_authenticator"]
    for epoch in case["epochs"]:
        for message in [*epoch["proposals"], epoch["commit"]]:
            received = group.process(bytes.fromhex(message))
            assert isinstance(received, mls.ReceivedProposal | mls.ReceivedCommit)
            group.accept(received)
        assert group.epoch_authenticator.hex() == epoch["epoch_authenticator"]


@pytest.mark.parametrize("file", ["welcome", "handling-commit", "random"])
def test_a_passive_client_reaches_the_official_secrets(folder: Path, file: str):
    if file == "random" and folder != FOLDER:
        pytest.skip(
            f"the one case of our cipher suites in openmls {CARRIER} adds a key package that has expired"
        )
    cases = msgspec.json.decode(
        (folder / f"passive-client-{file}.json").read_bytes(), type=list[dict[str, Any]]
    )
    outcomes: Counter[str] = Counter()
    for case in cases:
        if case["cipher_suite"] not in SUITES:
            outcomes["cipher suite"] += 1
        else:
            try:
                run(case)
            except mls.InvalidMessage as error:
                # What this face does not do: keep the resumption secrets of past epochs, or add who expired long ago.
                left_out = [word for word in ("PSK could not be found", "Lifetime") if word in str(error)]
                if not left_out:
                    raise
                outcomes[left_out[0]] += 1
            else:
                outcomes["ran"] += 1
    assert outcomes["ran"] > outcomes["PSK could not be found"] + outcomes["Lifetime"], dict(outcomes)
