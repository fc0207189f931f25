"""Which configurations can be sent to a worker, and what is said of others."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from lb_core.config import config_from_tree
from lb_core.dsl import MODULE
from lb_core.errors import ConfigError
from lb_core.plugins import Plugins
from lb_core.route_sections import FeatureChoice
from lb_core.workers.pickling import Packing, packed, unpacked

PLUGINS = Plugins.discover()
CONFIG = config_from_tree(
    {"routes": {"a.example": ["127.0.0.1:1"], "b.example": ["127.0.0.1:2"]}, "trusted_proxies": ["10.0.0.0/8"]}, PLUGINS
)


class ByKey(BaseModel):
    """A feature's settings with something in them that only Python can write."""

    key: object = None


def with_feature(value: object) -> object:
    choice = FeatureChoice(name="limit", settings=ByKey(key=value))
    routes = (CONFIG.routes[0], CONFIG.routes[1].model_copy(update={"features": (choice,)}))
    return CONFIG.model_copy(update={"routes": routes})


def test_a_configuration_comes_out_as_it_went_in() -> None:
    assert unpacked(packed(CONFIG)) == CONFIG


def test_a_function_of_a_module_travels() -> None:
    found = unpacked(packed(with_feature(len)))  # type: ignore[arg-type]
    assert found.routes[1].features[0].settings.key is len  # type: ignore[attr-defined]


def test_a_lambda_does_not_and_the_error_says_where_it_stands() -> None:
    with pytest.raises(ConfigError) as caught:
        packed(with_feature(lambda exchange: exchange))  # type: ignore[arg-type]
    (problem,) = caught.value.problems
    assert problem.where == "routes.b.example.limit"
    assert "cannot be sent to a worker" in problem.message
    assert "module" in problem.hint


def test_a_function_of_the_configuration_file_does_not_either() -> None:
    """Workers would go on with the function as it was at the start."""

    def key() -> None:
        """Stands for one of the file."""

    key.__module__, key.__qualname__ = MODULE, "key"
    with pytest.raises(ConfigError, match="key stands in the configuration file"):
        packed(with_feature(key))  # type: ignore[arg-type]


def test_each_configuration_is_packed_once() -> None:
    packing = Packing()
    packing.check(CONFIG)
    assert packing.of(CONFIG) is packing.of(CONFIG)
    other = CONFIG.model_copy(update={"no_route_status": 421})
    assert unpacked(packing.of(other)) == other
