"""What the tests of the cluster share: a real Redis server, and ways to wait for what a socket brings."""

from fixtures_redis import redis_process, redis_server

__all__ = ["redis_process", "redis_server"]
