"""Scenes in tar files (WebDataset's layout), for data that outgrows folders of small files."""

from training.data.shards.source import ShardScenes as ShardScenes
from training.data.shards.source import ShardsConfig as ShardsConfig
