"""Who asks for TLS gets it, or no connection: a login is never sent in the clear."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dragoman_bus.protocol.errors import BusUnavailable
from dragoman_bus.server import NatsServer
from dragoman_bus.transports.nats import NatsOptions, NatsTransport

pytestmark = pytest.mark.anyio

LOGIN = NatsOptions(user="me", password="s3cret", connect_timeout=2.0)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "certificate.pem", folder / "key.pem"


@pytest.mark.parametrize("optional", [False, True], ids=["required", "offered"])
@pytest.mark.parametrize("asked", ["by the address", "by the context"])
async def test_what_is_said_to_a_server_with_tls_is_encrypted(
    tmp_path: Path, optional: bool, asked: str
) -> None:
    public, key = certificate(tmp_path)
    configuration = f"""
        tls {{ cert_file: "{public}", key_file: "{key}" }}
        allow_non_tls: {str(optional).lower()}
        authorization {{ user: me, password: s3cret }}
    """
    trusted = ssl.create_default_context(cafile=public)
    async with NatsServer(tmp_path / "nats", extra_configuration=configuration) as server:
        scheme = "tls" if asked == "by the address" else "nats"
        url = server.url.replace("nats://", f"{scheme}://")
        transport = await NatsTransport.connect(replace(LOGIN, servers=(url,), tls=trusted))
        assert transport._connection.client._transport.encrypted

        server.kill()
        await server.start_async()
        await transport.flush()

        assert transport.statistics.reconnects == 1
        assert transport._connection.client._transport.encrypted
        await transport.close()


@pytest.mark.parametrize("asked", ["by the address", "by the context"])
async def test_a_server_without_tls_learns_no_login_of_who_asks_for_tls(asked: str) -> None:
    heard: list[bytes] = []

    async def offer_no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.15.0","auth_required":true}\r\n')
        heard.append(await reader.read(1000))
        writer.close()

    async with await asyncio.start_server(offer_no_tls, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        options = (
            replace(LOGIN, servers=(f"tls://127.0.0.1:{port}",))
            if asked == "by the address"
            else replace(
                LOGIN, servers=(f"nats://127.0.0.1:{port}",), tls=ssl.create_default_context()
            )
        )
        with pytest.raises(BusUnavailable, match="secure connection"):
            await NatsTransport.connect(options)

    assert len(heard) > 0
    assert b"".join(heard) == b""
