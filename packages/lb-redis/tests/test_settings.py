"""The section `cluster`, as a file holds it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lb_core import ConfigError, LoadBalancer
from lb_redis import ClusterSettings


def balancer(tmp_path: Path, section: str, **environ: str) -> LoadBalancer:
    file = tmp_path / "lb.yaml"
    file.write_text(f'cluster: {section}\nroutes: {{"*": ["127.0.0.1:9"]}}\n')
    return LoadBalancer.from_file(file, environ=environ)


def settings(tmp_path: Path, section: str, **environ: str) -> ClusterSettings:
    found = balancer(tmp_path, section, **environ).config.section("cluster")
    assert isinstance(found, ClusterSettings)
    return found


def test_the_short_form_is_the_url(tmp_path: Path) -> None:
    found = settings(tmp_path, "redis://10.0.0.5")
    assert (found.name, found.node, found.timeout, found.lease, found.encrypted) == ("lb", "", 0.05, 10.0, False)


def test_the_long_form(tmp_path: Path) -> None:
    found = settings(tmp_path, "{redis: redis://h, node: edge-1, name: prod, timeout: 20ms, lease: 5s, tls: true}")
    assert (found.name, found.node, found.timeout, found.lease, found.encrypted) == ("prod", "edge-1", 0.02, 5.0, True)


def test_off_is_no_cluster(tmp_path: Path) -> None:
    assert balancer(tmp_path, "off").config.section("cluster") is None


def test_a_password_comes_from_the_environment_the_url_or_a_file(tmp_path: Path) -> None:
    assert settings(tmp_path, '{redis: redis://h, password: "${PW}"}', PW="geheim").secret() == "geheim"
    assert settings(tmp_path, '"redis://lb:${PW}@h"', PW="geheim").secret() == "geheim"
    assert settings(tmp_path, '"redis://lb:${PW}@h"', PW="geheim").user == "lb"
    secret = tmp_path / "secret"
    secret.write_text("geheim\n")
    assert settings(tmp_path, f"{{redis: redis://h, password_file: {secret}}}").secret() == "geheim"


def test_tls_is_off_on_or_a_mapping(tmp_path: Path) -> None:
    assert not settings(tmp_path, "{redis: redis://h, tls: off}").encrypted
    assert settings(tmp_path, "{redis: redis://h, tls: on}").encrypted
    assert settings(tmp_path, "{redis: rediss://h}").encrypted
    assert settings(tmp_path, "{redis: redis://h, tls: {check_hostname: false}}").encrypted


def test_nothing_shows_a_password(tmp_path: Path) -> None:
    made = balancer(tmp_path, "{redis: 'redis+sentinel://h/m', password: geheim, sentinel_password: geheim2}")
    assert "geheim" not in repr(made.config) + str(made.config) + made.config.model_dump_json()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("redis:/h", "lb.yaml:1: cluster: "),
        ("{node: a}", 'the key "redis" is missing'),
        ("{redis: 'redis://h', nod: a}", 'unknown key "nod" (did you mean node?)'),
        ("{redis: 'redis://h', node: 'a b'}", "cluster.node"),
        ("{redis: 'redis://h', timeout: 1m}", "too long to wait for Redis"),
        ("{redis: 'redis://h', timeout: 5}", "cluster.timeout"),
        ("{redis: 'redis://h', timeout: 1us}", "write 1ms at least"),
        ("{redis: 'redis://h', sentinel_password: '1234567'}", "names no Sentinels"),
        ("{redis: 'redis://h', password_file: /etc/passwd}", "more than one line"),
        ("{redis: 'redis://h', lease: 1s}", "write 3s to 300s"),
        ("{redis: 'redis://h', password: 1234567}", "cluster.password: this is not text: put it in quotes"),
        ("{redis: 'redis://:a@h', password: b}", "the password is given twice"),
        ("{redis: 'redis://u:a@h', username: v}", "the user is given twice"),
        ("{redis: 'redis://h', password_file: /no/such}", "No such file"),
        ("{redis: 'redis://h', tls: {ca: /no/such}}", 'there is no file "/no/such"'),
        ("{redis: 'redis://h', tls: {cert: /etc/passwd}}", "cert and key belong together"),
    ],
)
def test_what_is_wrong_is_told_at_its_place(tmp_path: Path, section: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        balancer(tmp_path, section)
    assert message in str(refused.value)
    assert "1234567" not in str(refused.value)


def test_an_empty_file_holds_no_password(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("\n")
    with pytest.raises(ConfigError, match="holds no password"):
        balancer(tmp_path, f"{{redis: redis://h, password_file: {secret}}}")


def test_the_schema_of_a_file_knows_the_section() -> None:
    from lb_core.config import json_schema
    from lb_core.plugins import Plugins

    schema: dict[str, Any] = json_schema(Plugins.discover())
    assert "cluster" in schema["properties"]


def test_every_field_is_documented() -> None:
    import ast
    import inspect

    (body,) = ast.parse(inspect.getsource(ClusterSettings)).body
    assert isinstance(body, ast.ClassDef)
    pairs = zip(body.body, body.body[1:], strict=False)
    documented = {
        one.target.id
        for one, then in pairs
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and isinstance(then, ast.Expr)
    }
    assert documented == set(ClusterSettings.model_fields)


def test_redis_py_is_not_loaded_before_a_cluster_starts() -> None:
    found = "from lb_core.plugins import Plugins; found = Plugins.discover().sections"
    code = f"import sys; {found}; print('cluster' in found, 'redis' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert ran.stdout.split() == ["True", "False"]
