import json

import pytest
from test_config_engine import model

from kvscape.config import ModelConfig
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
