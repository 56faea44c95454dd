"""Celery, configured as a doorbell: JSON messages, no results, acknowledged late, one message at a time."""

from celery import Celery

PREFIX = "palimpsest"  # what the names of its queues begin with
SILENCE_S = 5.0  # a broker that does not answer for so long is given up: whoever rings must not wait for a dead connection
VISIBILITY_S = 3_600  # a message that nobody acknowledged for so long is given out again (Redis)


def make_app(broker: str) -> Celery:
    """The Celery application for a broker; the same for the embedded thread and the cluster's processes."""
    app = Celery("palimpsest", broker=broker, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_default_queue=PREFIX,
        task_create_missing_queues=True,
        worker_soft_shutdown_timeout=5.0,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0.0},  # on a new connection; then the sweeper rings again
        broker_transport_options=_transport(broker),
    )
    return app


def _transport(broker: str) -> dict[str, float | bool]:
    if broker.startswith("memory"):
        return {"polling_interval": 0.02}  # the default of a second is what every job would wait
    patience = {"socket_timeout": SILENCE_S, "socket_connect_timeout": SILENCE_S, "socket_keepalive": True}
    return {"visibility_timeout": VISIBILITY_S, "unacked_restore_interval": 1, "unacked_restore_throttle": 1, **patience}
