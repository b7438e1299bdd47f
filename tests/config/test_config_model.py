import json
from dataclasses import replace

import pytest
from test_config_engine import model

from kvscape.config import FULL, SLIDING, LayerGroup, ModelConfig, RopeScaling
from kvscape.errors import ConfigError


def test_json_and_back_is_the_same_model() -> None:
    config = model()
    assert ModelConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_an_unknown_key_is_no_model() -> None:
    with pytest.raises(ConfigError, match="unknown key 'rope' in model"):
        ModelConfig.from_json({**model().to_json(), "rope": 1})


def test_one_group_holds_all_layers() -> None:
    (group,) = model().layer_groups
    assert (group.layers, group.sliding_window_size) == ((0, 1), -1)
    assert model().group_size == 2


def test_scaling_and_layer_types_survive_json() -> None:
    scaling = RopeScaling("longrope", short_factor=(1.0, 1.5), long_factor=(4.0, 8.0))
    config = replace(model(), rope_scaling=scaling, sliding_window=4, layer_types=(SLIDING, FULL))
    assert ModelConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_an_unknown_key_is_no_scaling() -> None:
    with pytest.raises(ConfigError, match="unknown key 'beta' in rope_scaling"):
        ModelConfig.from_json({**model().to_json(), "rope_scaling": {"beta": 1}})


def test_a_window_without_layer_types_is_every_layers() -> None:
    assert replace(model(), sliding_window=4).layer_groups == (LayerGroup((0, 1), 4),)


def test_layers_with_the_same_window_are_one_group() -> None:
    config = replace(model(), num_hidden_layers=3, sliding_window=4, layer_types=(SLIDING, FULL, SLIDING))
    assert config.layer_groups == (LayerGroup((0, 2), 4), LayerGroup((1,), -1))
