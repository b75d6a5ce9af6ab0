"""Engines run shards. ``local_engine`` and ``ray_engine`` have one signature::

with engine(shards, worker_config, engine_config, output, say) as reports:
    for report in reports:  # one ShardReport per shard, in any order
        ...
"""
